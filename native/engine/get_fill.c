/* Reading a value from the device: into a frame, where others can join, or straight into the caller's registered
 * memory. What is read is not verified yet: whoever takes it does that. */

#include "engine/get.h"

#include <errno.h>

void kv_get_hold_frame(kv_operation *operation, kv_work *work, kv_frame *frame)
{
    work->frame = frame;
    operation->held_size += frame->span;
}

int kv_get_fill(kv_operation *operation, uint32_t i)
{
    kv_engine *engine = operation->engine;
    kv_work *work = &operation->works[i];
    kv_object *object = work->object;
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    uint32_t span = kv_round_up(object->size, KV_DEVICE_ALIGNMENT);
    uint32_t skip = 0;
    kv_frame *frame;

    kv_object_pieces(engine, object, pieces);
    if (object->packed) {
        skip = (uint32_t)(pieces[0].offset % KV_DEVICE_ALIGNMENT);
        span = kv_round_up(skip + object->size, KV_DEVICE_ALIGNMENT);
        pieces[0].offset -= skip;
        pieces[0].size = span;
    }
    frame = kv_tier_allocate(&engine->tier, span, object->size);
    if (!frame)
        return -EAGAIN;
    frame->state = KV_FRAME_FILLING;
    frame->skip = skip;
    kv_get_hold_frame(operation, work, frame);
    if (kv_transfer_build(operation, KV_IO_READ, &(kv_transfer_memory){.frame = frame, .span = span},
                          pieces, NULL) < 0)
        frame->error = ENOMEM;
    if (frame->fills == 0)
        return -ENOMEM;
    frame->holders++; /* the fill's own */
    frame->source = kv_index_handle(engine->index, object);
    kv_object_hold(object);
    if (operation->kind != KV_OP_READ_DEVICE && !object->packed && !frame->error)
        kv_tier_attach(&engine->tier, frame, object, work->hash, i, operation->batch);
    kv_list_append(&frame->waiters, &work->link);
    work->state = KV_WORK_READING;
    return 0;
}

bool kv_get_may_read_direct(const kv_operation *operation, uint32_t i)
{
    const kv_item *item = &operation->request->items[i];
    const kv_work *work = &operation->works[i];
    uint32_t span = kv_round_up(work->size, KV_DEVICE_ALIGNMENT);

    return operation->kind == KV_OP_GET && !work->object->packed && !work->retried &&
           item->value % KV_DEVICE_ALIGNMENT == 0 && item->value_size >= span &&
           kv_engine_registered(operation->engine, item->value, span);
}

int kv_get_read_direct(kv_operation *operation, uint32_t i)
{
    kv_engine *engine = operation->engine;
    kv_work *work = &operation->works[i];
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    kv_transfer_memory memory = {.direct = (uint8_t *)operation->request->items[i].value,
                                 .span = kv_round_up(work->size, KV_DEVICE_ALIGNMENT)};
    kv_work_range range = {.first = i, .count = 1, .run = work->run};

    kv_object_pieces(engine, work->object, pieces);
    if (kv_transfer_build(operation, KV_IO_READ, &memory, pieces, &range) < 0)
        work->error = ENOMEM;
    if (work->pending == 0)
        return -ENOMEM;
    work->direct = 1;
    engine->direct_count++;
    work->state = KV_WORK_READING;
    return 0;
}
