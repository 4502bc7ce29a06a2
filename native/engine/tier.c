/* The DRAM tier: bounded memory that holds values on their way to the device and hot ones for readers.
 *
 * Frames are reserved from the region by the slab allocator and ordered by the eviction policy. A
 * frame with holders never goes; a frame whose value the device does not hold yet never goes; frames of pinned
 * objects go last. A detached frame (no object) is freed with its last holder. */

#include "engine/engine_state.h"

#include "bytes/arena.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define TIER_FRAMES_SIZE_MAX (4ull << 30) /* addresses reserved for frame records */
#define TIER_SLAB_SIZE_MIN (512u << 10)
#define TIER_SLAB_SIZE_ANY (2u << 20)      /* its extents hold any value in 256 pieces */
#define TIER_SIZE_ANY (96ull << 20)        /* a tier of this size has such slabs */
#define TIER_SLAB_SIZE_MAX (16u << 20)
#define TIER_SLABS 64u                    /* about so many slabs in a small tier */
#define TIER_VALUE_SIZE_TYPICAL (64u << 10)

static size_t frame_record_size(uint32_t piece_count)
{
    return sizeof(kv_frame) + piece_count * sizeof(uint32_t);
}

static void node_load(void *context, uint32_t handle, kv_eviction_node *node)
{
    const kv_frame *frame = kv_tier_at(context, handle);

    node->next = frame->queue_next;
    node->previous = frame->queue_previous;
    node->queue = frame->queue;
    node->frequency = frame->frequency;
}

static void node_store(void *context, uint32_t handle, const kv_eviction_node *node)
{
    kv_frame *frame = kv_tier_at(context, handle);

    frame->queue_next = node->next;
    frame->queue_previous = node->previous;
    frame->queue = node->queue;
    frame->frequency = node->frequency;
}

static bool node_may_go(void *context, uint32_t handle, uint64_t *hash)
{
    const kv_tier *tier = context;
    const kv_frame *frame = kv_tier_at(tier, handle);

    *hash = frame->hash;
    if (frame->holders > 0 || frame->unwritten)
        return false;
    return tier->pinned_may_go || !kv_index_at(tier->index, frame->object)->pinned;
}

static uint64_t slab_size_for(uint64_t size)
{
    uint64_t slab_size = size >= TIER_SIZE_ANY ? TIER_SLAB_SIZE_ANY : TIER_SLAB_SIZE_MIN;

    while (slab_size < TIER_SLAB_SIZE_MAX && slab_size * TIER_SLABS * 2 <= size)
        slab_size *= 2;
    return slab_size;
}

int kv_tier_open(kv_tier *tier, void *memory, uint64_t size, kv_index *index)
{
    uint64_t slab_size = slab_size_for(size);
    kv_slab_options options = {
        .slab_size = slab_size,
        .slab_count = (uint32_t)(size / slab_size),
        .alignment = KV_SLAB_UNIT,
        .extent_size_max = (uint32_t)(slab_size / 8),
    };
    int result;

    memset(tier, 0, sizeof(*tier));
    tier->memory = memory;
    tier->size = options.slab_count * slab_size;
    tier->index = index;
    result = kv_slab_open(&options, &tier->space);
    if (result < 0)
        return result;
    result = kv_arena_open(TIER_FRAMES_SIZE_MAX, &tier->frames);
    if (result < 0)
        goto fail_frames;
    result = kv_eviction_open(size / TIER_VALUE_SIZE_TYPICAL + 1, node_load, node_store, tier,
                              &tier->eviction);
    if (result < 0)
        goto fail_eviction;
    return 0;

fail_eviction:
    kv_arena_close(tier->frames);
fail_frames:
    kv_slab_close(tier->space);
    tier->space = NULL;
    return result;
}

void kv_tier_close(kv_tier *tier)
{
    if (!tier->space)
        return;
    kv_eviction_close(tier->eviction);
    kv_arena_close(tier->frames);
    kv_slab_close(tier->space);
    tier->space = NULL;
}

kv_frame *kv_tier_at(const kv_tier *tier, uint32_t handle)
{
    assert(handle != 0);
    return kv_arena_at(tier->frames, handle);
}

static void frame_free(kv_tier *tier, kv_frame *frame)
{
    assert(frame->holders == 0 && frame->object == 0);
    assert(kv_list_empty(&frame->waiters));
    for (uint32_t i = 0; i < frame->piece_count; i++) {
        kv_extent extent;

        kv_slab_extent_at(tier->space, (uint64_t)frame->pieces[i] * KV_SLAB_UNIT, 0, &extent);
        kv_slab_free(tier->space, &extent);
    }
    kv_arena_free(tier->frames, frame->self, frame_record_size(frame->piece_count));
}

/* Detach the frame that the policy names; false when none may go. */
static bool evict_one(kv_tier *tier)
{
    uint32_t handle = kv_eviction_pick(tier->eviction, node_may_go);
    kv_frame *frame;

    if (handle == 0) {
        tier->pinned_may_go = true;
        handle = kv_eviction_pick(tier->eviction, node_may_go);
        tier->pinned_may_go = false;
    }
    if (handle == 0)
        return false;

    frame = kv_tier_at(tier, handle);
    assert(frame->object != 0);
    kv_index_at(tier->index, frame->object)->frame = 0;
    frame->object = 0;
    tier->count--;
    frame_free(tier, frame);
    return true;
}

static kv_frame *frame_create(kv_tier *tier, const kv_extent *pieces, uint32_t piece_count)
{
    uint32_t handle = kv_arena_allocate(tier->frames, frame_record_size(piece_count));
    kv_frame *frame;

    if (handle == 0)
        return NULL;
    frame = kv_tier_at(tier, handle);
    memset(frame, 0, sizeof(*frame));
    kv_list_init(&frame->waiters);
    frame->self = handle;
    frame->holders = 1;
    frame->piece_count = (uint16_t)piece_count;
    for (uint32_t i = 0; i < piece_count; i++)
        frame->pieces[i] = (uint32_t)(pieces[i].offset / KV_SLAB_UNIT);
    return frame;
}

static void free_pieces(kv_tier *tier, const kv_extent *pieces, int count)
{
    for (int i = 0; i < count; i++)
        kv_slab_free(tier->space, &pieces[i]);
}

/* A span of whole pages is for the device: every piece must be whole pages too. */
static int reserve(kv_tier *tier, uint32_t span, kv_extent *pieces)
{
    int count = kv_slab_allocate(tier->space, span, pieces);

    for (int i = 0; i < count && span % KV_DEVICE_ALIGNMENT == 0; i++)
        if ((pieces[i].offset | pieces[i].size) % KV_DEVICE_ALIGNMENT != 0) {
            free_pieces(tier, pieces, count);
            return -ENOSPC;
        }
    return count;
}

uint32_t kv_tier_span_max(const kv_tier *tier)
{
    uint64_t size = tier->size / 4 * 3;

    return size < UINT32_MAX ? (uint32_t)size : UINT32_MAX;
}

kv_frame *kv_tier_allocate(kv_tier *tier, uint32_t span, uint32_t size)
{
    kv_extent pieces[KV_SLAB_PIECES_MAX];
    kv_frame *frame;
    int count;

    assert(span >= size && span > 0);
    while ((count = reserve(tier, span, pieces)) < 0)
        if (!evict_one(tier))
            return NULL;
    frame = frame_create(tier, pieces, (uint32_t)count);
    if (!frame) {
        free_pieces(tier, pieces, count);
        return NULL;
    }
    frame->size = size;
    frame->span = span;
    return frame;
}

void kv_tier_attach(kv_tier *tier, kv_frame *frame, kv_object *object, uint64_t hash, uint32_t rank,
                    uint64_t batch)
{
    assert(frame->object == 0 && object->frame == 0);
    frame->object = kv_index_handle(tier->index, object);
    frame->hash = hash;
    object->frame = frame->self;
    tier->count++;
    (void)batch;
    kv_eviction_insert(tier->eviction, frame->self, hash, rank);
}

void kv_tier_detach(kv_tier *tier, kv_object *object)
{
    kv_frame *frame;

    if (object->frame == 0)
        return;
    frame = kv_tier_at(tier, object->frame);
    kv_eviction_remove(tier->eviction, frame->self);
    object->frame = 0;
    frame->object = 0;
    tier->count--;
    if (frame->holders == 0)
        frame_free(tier, frame);
}

void kv_tier_move(kv_tier *tier, kv_object *from, kv_object *to)
{
    assert(to->frame == 0);
    if (from->frame == 0)
        return;
    to->frame = from->frame;
    from->frame = 0;
    kv_tier_at(tier, to->frame)->object = kv_index_handle(tier->index, to);
}

void kv_tier_touch(kv_tier *tier, kv_frame *frame, uint32_t rank, uint64_t batch)
{
    (void)batch;
    if (frame->object != 0)
        kv_eviction_touch(tier->eviction, frame->self, rank);
}

void kv_tier_release(kv_tier *tier, kv_frame *frame)
{
    assert(frame->holders > 0);
    frame->holders--;
    if (frame->holders == 0 && frame->object == 0)
        frame_free(tier, frame);
}

uint8_t *kv_frame_range(const kv_tier *tier, const kv_frame *frame, uint32_t position, uint32_t *size)
{
    uint32_t begin = 0;

    assert(position < frame->span);
    if (frame->piece_count == 1) { /* most of them: without a look at the slab */
        *size = frame->span - position;
        return tier->memory + (uint64_t)frame->pieces[0] * KV_SLAB_UNIT + position;
    }
    for (uint32_t i = 0; i < frame->piece_count; i++) {
        kv_extent extent;

        kv_slab_extent_at(tier->space, (uint64_t)frame->pieces[i] * KV_SLAB_UNIT, 0, &extent);
        if (position < begin + extent.size) {
            uint32_t left = begin + extent.size - position;

            *size = left < frame->span - position ? left : frame->span - position;
            return tier->memory + extent.offset + (position - begin);
        }
        begin += extent.size;
    }
    assert(!"a frame's pieces hold its span");
    return NULL;
}

void kv_frame_copy(const kv_tier *tier, const kv_frame *target, const kv_frame *source, uint32_t begin,
                   uint32_t size)
{
    uint32_t position = 0;

    while (position < size) {
        uint32_t source_size;
        uint32_t target_size;
        const uint8_t *from = kv_frame_range(tier, source, begin + position, &source_size);
        uint8_t *to = kv_frame_range(tier, target, position, &target_size);
        uint32_t part = source_size < target_size ? source_size : target_size;

        if (part > size - position)
            part = size - position;
        memcpy(to, from, part);
        position += part;
    }
}

uint32_t kv_frame_ranges(const kv_tier *tier, const kv_frame *frame, uint32_t position, uint32_t size,
                         struct iovec *ranges)
{
    uint32_t end = position + size;
    uint32_t count = 0;

    while (position < end) {
        uint32_t part;
        uint8_t *begin = kv_frame_range(tier, frame, position, &part);

        if (part > end - position)
            part = end - position;
        if (count > 0 && (uint8_t *)ranges[count - 1].iov_base + ranges[count - 1].iov_len == begin)
            ranges[count - 1].iov_len += part; /* pieces that happen to be neighbours */
        else
            ranges[count++] = (struct iovec){.iov_base = begin, .iov_len = part};
        position += part;
    }
    assert(count <= KV_LENT_RANGES_MAX);
    return count;
}
