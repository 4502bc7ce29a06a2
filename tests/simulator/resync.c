/* Feeding a successor that syncs: what it has too much is removed, own keys are compared, then it is
 * told that it lacks nothing. One page and one job for a key at a time; see native/node/resync.c. */

#include "simulator.h"

#include <errno.h>

#define RESYNC_PAUSE (2 * MILLISECOND)
#define RESYNC_JOBS_MAX 8u

static void pause(sim_world *world, sim_target *target, uint64_t delay)
{
    sim_plan(world, delay, EVENT_RESYNC, target->node->id, target->number, 0, 0);
}

static void begin_anew(sim_target *target)
{
    sim_resync *resync = &target->resync;

    resync->phase = RESYNC_QUIET;
    resync->tag = 0;
    resync->next_key = 0;
    resync->page_count = 0;
    resync->turns = 0;
    resync->failed = false;
}

static bool ask(sim_world *world, sim_target *target, sim_message *message)
{
    const kv_replica_view *view = kv_replica_view_of(target->replica);
    uint32_t *peer = sim_peer(world, target, 0);

    if (!peer) {
        free(message);
        pause(world, target, RESYNC_PAUSE);
        return false;
    }
    message->tag = target->resync.tag = ++world->numbers;
    message->target = view->successor;
    message->chain_version = target->resync.chain_version;
    sim_send(world, *peer, false, message);
    return true;
}

static void page_item(void *context, uint32_t i, kv_forward_item *item)
{
    static char bytes[SIM_RESYNC_PAGE][SIM_KEY_SIZE];
    const sim_target *target = context;
    kv_item_stat stat = {0};
    uint32_t size;

    sim_key_bytes(target->resync.page[i], bytes[i]);
    sim_storage_peek(target, target->resync.page[i], &stat, &size);
    *item = (kv_forward_item){.key = (const uint8_t *)bytes[i], .key_size = SIM_KEY_SIZE,
                              .version = stat.version};
}

static void forward_ask(sim_world *world, sim_target *target, uint32_t kind, uint32_t count)
{
    kv_wire_forward wire = {.forward = kind,
                            .target = kv_replica_view_of(target->replica)->successor,
                            .chain_version = target->resync.chain_version,
                            .count = count};
    uint32_t columns = kv_forward_columns_size(count, count * SIM_KEY_SIZE);
    sim_message *message = sim_message_make(columns);

    message->kind = SIM_FORWARD;
    message->head = (kv_message_head){.version = KV_PROTOCOL_VERSION_MAX,
                                      .kind = KV_MESSAGE_FORWARD,
                                      .count = count,
                                      .columns_size = columns};
    assert(kv_forward_encode(&wire, page_item, target, message->bytes) == columns);
    ask(world, target, message);
}

/* The next keys that are here. */
static void compare_more(sim_world *world, sim_target *target)
{
    sim_resync *resync = &target->resync;
    uint32_t first = target->chain * world->options.keys;
    kv_item_stat stat;
    uint32_t size;

    for (; resync->page_count < SIM_RESYNC_PAGE && resync->next_key < world->options.keys;
         resync->next_key++)
        if (sim_storage_peek(target, first + resync->next_key, &stat, &size))
            resync->page[resync->page_count++] = first + resync->next_key;
    if (resync->page_count > 0) {
        forward_ask(world, target, KV_FORWARD_COMPARE, resync->page_count);
    } else {
        resync->phase = RESYNC_TELL;
        sim_resync_look(world, target);
    }
}

static void list_more(sim_world *world, sim_target *target)
{
    sim_message *message = sim_message_make(0);

    message->kind = SIM_LIST;
    message->attempt = target->resync.next_key;
    ask(world, target, message);
}

/* Until updates that ran while keys were compared have ended, the successor may hold an old object
 * and not have applied yet what replaces it. */
static void tell_if_settled(sim_world *world, sim_target *target)
{
    sim_resync *resync = &target->resync;

    if (resync->turns == 0)
        resync->turns = kv_replica_turns(target->replica);
    if (kv_replica_settled(target->replica, resync->turns))
        forward_ask(world, target, KV_FORWARD_SYNCED, 0);
    else
        pause(world, target, RESYNC_PAUSE);
}

void sim_resync_look(sim_world *world, sim_target *target)
{
    sim_resync *resync = &target->resync;

    if (!resync->active || !target->open || resync->tag != 0 || resync->job_count > 0)
        return;
    if (resync->failed)
        begin_anew(target);
    if (resync->phase == RESYNC_QUIET && target->unretained_count == 0)
        resync->phase = RESYNC_LIST;
    switch (resync->phase) {
    case RESYNC_COMPARE:
        compare_more(world, target);
        break;
    case RESYNC_LIST:
        list_more(world, target);
        break;
    case RESYNC_TELL:
        tell_if_settled(world, target);
        break;
    default:
        break;
    }
}

void sim_resync_configure(sim_world *world, sim_target *target)
{
    const kv_replica_view *view = kv_replica_view_of(target->replica);
    sim_resync *resync = &target->resync;
    bool active = view->serves && view->has_successor && view->successor_syncs;

    if (resync->active == active && resync->chain_version == view->chain_version)
        return;
    resync->active = active;
    resync->chain_version = view->chain_version;
    begin_anew(target);
    if (active)
        pause(world, target, sim_delay(world));
}

void sim_resync_severed(sim_world *world, sim_target *target)
{
    if (!target->resync.active || target->resync.tag == 0)
        return;
    target->resync.tag = 0;
    target->resync.failed = true;
    pause(world, target, RESYNC_PAUSE);
}

static void key_job(sim_world *world, sim_target *target, uint32_t key, uint32_t operation)
{
    sim_job *job = sim_job_make(world, target, KV_UPDATE_SYNC, operation, 1);

    world->tally.synced_keys++;
    target->resync.job_count++;
    job->items[0].key = key;
    sim_job_begin(world, target, job);
}

/* `statuses` NULL: it is asked again. */
void sim_resync_hear(sim_world *world, sim_target *target, const sim_message *message,
                     const uint8_t *statuses)
{
    sim_resync *resync = &target->resync;

    resync->tag = 0;
    if (!statuses) {
        resync->failed = true;
        pause(world, target, RESYNC_PAUSE);
        return;
    }
    if (resync->phase == RESYNC_COMPARE) {
        for (uint32_t i = 0; i < message->count && i < resync->page_count; i++)
            if (statuses[i] != KV_OK)
                key_job(world, target, resync->page[i], KV_OP_SET);
        resync->page_count = 0;
    } else if (resync->phase == RESYNC_TELL) {
        resync->phase = RESYNC_OVER;
    }
    pause(world, target, 0);
}

/* What the successor lacks still, it is compared for once more. */
void sim_resync_job_ended(sim_world *world, sim_target *target, const sim_job *job)
{
    assert(target->resync.job_count > 0);
    target->resync.job_count--;
    if (job->end_status != KV_OK || job->statuses[0] == KV_NO_SPACE)
        target->resync.failed = true;
    pause(world, target, target->resync.failed ? RESYNC_PAUSE : 0);
}

/* ---- one key ---- */

static void looked_up(sim_world *world, sim_target *target, sim_job *job)
{
    kv_item *item = &job->engine_items[0];
    kv_status status = KV_OK;
    kv_item_stat stat;
    uint32_t size;
    bool there = sim_storage_peek(target, job->items[0].key, &stat, &size);

    if (job->operation == KV_OP_DELETE) {
        job->statuses[0] = there ? KV_EXISTS : KV_OK;
    } else {
        job->statuses[0] = (uint8_t)(there ? item->status : KV_NOT_FOUND);
        job->versions[0] = there ? stat.version : 0;
        if (there && item->status != KV_OK)
            status = KV_IO_ERROR; /* the successor must not be told to have it */
        job->update.careful = true;
    }
    sim_job_decided(world, target, job, status);
}

void sim_sync_look(sim_world *world, sim_target *target, sim_job *job)
{
    if (job->operation == KV_OP_DELETE) {
        looked_up(world, target, job);
        return;
    }
    job->engine_items[0] = (kv_item){.key = (uint64_t)(uintptr_t)job->key_bytes[0],
                                     .key_size = SIM_KEY_SIZE,
                                     .value_size = 1u << 20};
    job->request = (kv_request){.items = job->engine_items, .stats = job->stats, .count = 1,
                                .operation = KV_OP_LEND};
    if (!sim_storage_begin(target, &job->owner, &job->request))
        sim_job_decided(world, target, job, KV_BUSY);
}

void sim_sync_stepped(sim_world *world, sim_target *target, sim_job *job)
{
    while (job->owner.operation && kv_operation_next(job->owner.operation) >= 0) {
        job->lent[0] = job->engine_items[0].status == KV_OK && job->engine_items[0].result_size > 0;
    }
    if (job->deciding && job->owner.answered)
        looked_up(world, target, job);
}

/* ---- which keys the successor holds ---- */

static void list_answer(sim_world *world, sim_target *target, const sim_message *message)
{
    sim_message *answer = sim_message_make(0);
    uint32_t first = target->chain * world->options.keys, key = message->attempt;
    kv_item_stat stat;
    uint32_t size;

    *answer = *message;
    answer->size = 0;
    answer->kind = SIM_LISTED;
    answer->status =
        sim_leased(world, target->node)
            ? kv_replica_admits(target->replica, KV_UPDATE_PEER, message->chain_version)
            : KV_WRONG_TARGET;
    answer->count = 0;
    for (; key < world->options.keys && answer->count < SIM_ITEMS_MAX; key++)
        if (sim_storage_peek(target, first + key, &stat, &size))
            answer->items[answer->count++].key = first + key;
    answer->attempt = key;
    sim_answer(world, message, answer);
}

void sim_list_hear(sim_world *world, sim_target *target, const sim_message *message)
{
    sim_resync *resync = &target->resync;
    kv_item_stat stat;
    uint32_t size;

    if (message->kind == SIM_LIST) {
        list_answer(world, target, message);
        return;
    }
    if (message->tag != resync->tag || !resync->active)
        return;
    resync->tag = 0;
    if (message->status != KV_OK) {
        resync->failed = true;
        pause(world, target, RESYNC_PAUSE);
        return;
    }
    for (uint32_t i = 0; i < message->count; i++)
        if (!sim_storage_peek(target, message->items[i].key, &stat, &size))
            key_job(world, target, message->items[i].key, KV_OP_DELETE);
    resync->next_key = message->attempt;
    if (resync->next_key == world->options.keys) {
        resync->phase = RESYNC_COMPARE;
        resync->next_key = 0;
    }
    pause(world, target, 0);
}
