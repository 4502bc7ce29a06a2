/* Reads: looked up in the engine, and said only if what was seen was committed; see
 * native/node/chain_read.c. */

#include "simulator.h"

void sim_refuse(sim_world *world, const sim_message *request, kv_status status)
{
    sim_message *answer = sim_message_make(0);

    *answer = *request;
    answer->size = 0;
    answer->kind = SIM_REPLY;
    answer->status = status;
    sim_answer(world, request, answer);
}

/* Mostly none; sometimes a device is slow, or a thread is. */
static uint64_t read_delay(sim_world *world)
{
    kv_random *random = &world->network;

    if (sim_one_in(random, 16))
        return sim_draw(random, sim_one_in(random, 4) ? 400 * MILLISECOND : 40 * MILLISECOND);
    return sim_one_in(random, 3) ? sim_draw(random, 3 * MILLISECOND) : 0;
}

static bool is_dirty(const sim_target *target, const sim_read *read, uint32_t i)
{
    return kv_replica_is_dirty(target->replica, (const uint8_t *)read->key_bytes[i], SIM_KEY_SIZE,
                               read->message->items[i].key);
}

void sim_read_hear(sim_world *world, sim_target *target, sim_message *message)
{
    const kv_replica_view *view = kv_replica_view_of(target->replica);
    sim_read *read;

    if (!sim_leased(world, target->node) || !view->serves ||
        view->chain_version != message->chain_version) {
        sim_refuse(world, message, KV_WRONG_TARGET);
        free(message);
        return;
    }
    read = calloc(1, sizeof(*read));
    assert(read != NULL);
    read->id = ++world->numbers;
    read->message = message;
    read->epoch = target->epoch;
    sim_owner_init(&read->owner, OWNER_READ);
    kv_list_append(&target->reads, &read->place);
    for (uint32_t i = 0; i < message->count; i++) {
        sim_key_bytes(message->items[i].key, read->key_bytes[i]);
        read->dirty[i] = is_dirty(target, read, i);
    }
    sim_plan(world, read_delay(world), EVENT_LOOK_UP, target->node->id, target->number, read->id,
             0);
}

static void look_up(sim_world *world, sim_target *target, sim_read *read)
{
    for (uint32_t i = 0; i < read->message->count; i++)
        read->items[i] = (kv_item){.key = (uint64_t)(uintptr_t)read->key_bytes[i],
                                   .key_size = SIM_KEY_SIZE,
                                   .value_size = 1u << 20};
    read->request = (kv_request){.items = read->items, .stats = read->stats,
                                 .count = read->message->count, .operation = KV_OP_LEND};
    if (!sim_storage_begin(target, &read->owner, &read->request)) {
        sim_refuse(world, read->message, KV_BUSY);
        sim_read_free(read);
    }
}

void sim_read_stepped(sim_world *world, sim_target *target, sim_read *read)
{
    int64_t next;

    while (read->owner.operation && (next = kv_operation_next(read->owner.operation)) >= 0) {
        uint32_t i = (uint32_t)next;
        struct iovec ranges[KV_LENT_RANGES_MAX];
        uint32_t count;

        if (read->items[i].status != KV_OK || read->items[i].result_size == 0)
            continue;
        count = kv_operation_lent(read->owner.operation, i, ranges);
        read->message->items[i].write = sim_ranges_write(world, read->message->items[i].key, ranges,
                                                         count, read->items[i].result_size);
        kv_operation_return(read->owner.operation, i);
    }
    if (read->owner.operation || read->checked)
        return;
    read->checked = true;
    sim_plan(world, read_delay(world), EVENT_CHECK, target->node->id, target->number, read->id, 0);
}

static void check(sim_world *world, sim_target *target, sim_read *read)
{
    kv_status status = KV_OK;

    for (uint32_t i = 0; i < read->message->count; i++) {
        kv_status found = (kv_status)read->items[i].status;
        bool tells = found == KV_OK || found == KV_NOT_FOUND;

        if (tells && (read->dirty[i] || is_dirty(target, read, i))) {
            found = KV_DIRTY;
            world->tally.dirty++;
        }
        read->message->items[i].status = (uint8_t)found;
    }
    if (target->epoch != read->epoch || !sim_leased(world, target->node))
        status = KV_WRONG_TARGET;
    sim_refuse(world, read->message, status);
    sim_read_free(read);
}

void sim_read_event(sim_world *world, sim_target *target, const sim_event *event)
{
    for (kv_list *at = target->reads.next; at != &target->reads; at = at->next) {
        sim_read *read = KV_CONTAINER(at, sim_read, place);

        if (read->id != event->a)
            continue;
        if (event->kind == EVENT_LOOK_UP)
            look_up(world, target, read);
        else
            check(world, target, read);
        return;
    }
}

void sim_read_free(sim_read *read)
{
    kv_list_remove(&read->place);
    kv_list_remove(&read->owner.ready);
    free(read->message);
    free(read);
}
