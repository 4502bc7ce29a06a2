/* A simulated target: its process, what it hears, what it answers, and how it feeds a successor
 * that syncs. */
#ifndef KV_CHAIN_TARGET_H
#define KV_CHAIN_TARGET_H

#include "chain_job.h"

#define RESYNC_PAGE 2u
#define TARGET_PLACES 2u

static inline void target_open(chain_world *world, chain_target *target)
{
    kv_channels_options options = {CHAIN_CLIENTS, 1, 1 << 20, world->seed};

    target->run++;
    target->up = true;
    target->routing = (chain_routing){0};
    target->lease_end = target->uptodate = 0;
    target->fenced = target->run > 1;
    target->successor = ACTOR_NOBODY;
    target->successor_tight = false;
    target->resync = (chain_resync){0};
    memset(target->peers, 0, sizeof(target->peers));
    kv_list_init(&target->jobs);
    kv_list_init(&target->reads);
    assert(kv_replica_open(TARGET_PLACES, &target->replica) == 0);
    assert(kv_channels_open(&options, &target->channels) == 0);
    if (target->run > 1)
        kv_channels_forget(target->channels); /* what the process before it began */
    chain_plan(world, chain_delay(world), EVENT_HEARTBEAT, target->id, 0, 0);
}

/* Take effects without carrying them out. */
static inline void target_discard(chain_target *target)
{
    kv_update *update;
    uint32_t effects;

    while ((update = kv_replica_next(target->replica, &effects)))
        if (effects & KV_EFFECT_APPLY)
            KV_CONTAINER(update, chain_job, update)->applying = true;
}

/* The process is gone, and with it whatever it had not applied. The replica is emptied by the way
 * that leaving the chain would take. */
static inline void target_kill(chain_world *world, chain_target *target)
{
    kv_replica_view none = {0};
    kv_list *at;

    target->up = false;
    for (at = target->jobs.next; at != &target->jobs; at = at->next)
        job_kill(target, KV_CONTAINER(at, chain_job, place));
    kv_replica_configure(target->replica, &none);
    target_discard(target);
    for (at = target->jobs.next; at != &target->jobs; at = at->next) {
        chain_job *job = KV_CONTAINER(at, chain_job, place);

        if (job->deciding && job->update.state == KV_UPDATE_RUNNING)
            kv_replica_decided(target->replica, &job->update, KV_CANCELLED);
        if (job->applying && job->update.state == KV_UPDATE_RUNNING)
            kv_replica_applied(target->replica, &job->update);
        target_discard(target);
    }
    while ((at = kv_list_pop(&target->jobs)))
        free(KV_CONTAINER(at, chain_job, place));
    while ((at = kv_list_pop(&target->reads)))
        free(KV_CONTAINER(at, chain_read, place));
    kv_replica_close(target->replica);
    kv_channels_close(target->channels);
    for (uint32_t i = 1; i <= world->connection_count; i++) {
        chain_connection *connection = &world->connections[i];

        if (connection->open && (connection->from == target->id || connection->to == target->id))
            connection_cut(world, i);
    }
}

static inline void target_refuse(chain_world *world, const chain_target *target,
                                 const chain_message *request, kv_status status)
{
    chain_message message = *request;

    message.kind = request->kind == MESSAGE_FORWARD ? MESSAGE_FORWARDED : MESSAGE_REPLY;
    message.status = status;
    message.tight = target->tight;
    message_send(world, request->connection, true, &message);
}

/* A client's update: the record of its channel decides whether it is one. */
static inline void update_hear(chain_world *world, chain_target *target,
                               const chain_message *request)
{
    kv_channel_update update = {.client = {(uint8_t)(request->client + 1)}, .channel = 1,
                                .count = request->count, .sequence = request->sequence,
                                .repeated = request->repeated};
    const uint8_t *statuses = NULL;
    kv_channel *channel = NULL;
    kv_channel_verdict verdict;
    chain_message answer = *request;
    chain_job *job;

    if (!target_leased(world, target) ||
        kv_replica_admits(target->replica, KV_UPDATE_CLIENT, request->chain_version) != KV_OK) {
        target_refuse(world, target, request, KV_WRONG_TARGET);
        return;
    }
    verdict = kv_channel_begin(target->channels, &update, world->now / MILLISECOND, &channel,
                               &statuses);
    if (verdict == KV_CHANNEL_KNOWN) {
        answer.kind = MESSAGE_REPLY;
        answer.status = KV_OK;
        for (uint32_t i = 0; i < answer.count; i++)
            answer.items[i].status = statuses[i];
        message_send(world, request->connection, true, &answer);
    } else if (verdict == KV_CHANNEL_UNKNOWN) {
        target_refuse(world, target, request, KV_OUTCOME_UNKNOWN);
    } else if (verdict == KV_CHANNEL_RUNNING) {
        target_refuse(world, target, request, KV_BUSY);
    } else if (verdict == KV_CHANNEL_BEGUN) {
        job = job_make(world, target, KV_UPDATE_CLIENT, request);
        job->channel = channel;
        chain_plan(world, chain_delay(world), EVENT_CAME, target->id, job->id, 0);
    }
}

/* Mostly none; sometimes a device is slow, or a thread is. */
static inline uint64_t read_delay(chain_world *world)
{
    if (chain_one_in(world, 12))
        return brief(world, chain_one_in(world, 3) ? 600 : 60);
    return chain_one_in(world, 2) ? chain_draw(world, 4 * MILLISECOND) : 0;
}

static inline void read_hear(chain_world *world, chain_target *target,
                             const chain_message *request)
{
    const kv_replica_view *view = kv_replica_view_of(target->replica);
    chain_read *read;

    if (!target_leased(world, target) || !view->serves ||
        view->chain_version != request->chain_version) {
        target_refuse(world, target, request, KV_WRONG_TARGET);
        return;
    }
    read = calloc(1, sizeof(*read));
    assert(read != NULL);
    read->id = ++world->jobs_made;
    read->request = *request;
    kv_list_append(&target->reads, &read->place);
    chain_plan(world, chain_draw(world, 100), EVENT_BEFORE, target->id, read->id, 0);
}

static inline void read_end(chain_world *world, chain_target *target, chain_read *read,
                            kv_status status)
{
    world->tally->dirty += status == KV_DIRTY;
    read->request.items[0].value = read->value;
    target_refuse(world, target, &read->request, status);
    kv_list_remove(&read->place);
    free(read);
}

/* The key is clean before the value is looked up and after: then it was committed at some time in
 * between. */
static inline void read_event(chain_world *world, chain_target *target, const chain_event *event)
{
    kv_list *at = target->reads.next;
    chain_read *read;
    uint8_t key;
    bool dirty, serves;

    while (KV_CONTAINER(at, chain_read, place)->id != event->a)
        at = at->next;
    read = KV_CONTAINER(at, chain_read, place);
    key = (uint8_t)read->request.items[0].key;
    dirty = kv_replica_is_dirty(target->replica, &key, 1, key);
    serves = target_leased(world, target) && kv_replica_view_of(target->replica)->serves;
    if (event->kind == EVENT_BEFORE)
        read->given_up = kv_replica_given_up(target->replica);
    if (!serves || read->given_up != kv_replica_given_up(target->replica))
        read_end(world, target, read, KV_WRONG_TARGET);
    else if (dirty)
        read_end(world, target, read, KV_DIRTY);
    else if (event->kind == EVENT_AFTER)
        read_end(world, target, read, KV_OK);
    else
        chain_plan(world, read_delay(world), EVENT_LOOKUP, target->id, read->id, 0);
}

static inline void lookup_event(chain_world *world, chain_target *target, const chain_event *event)
{
    kv_list *at = target->reads.next;
    chain_read *read;

    while (KV_CONTAINER(at, chain_read, place)->id != event->a)
        at = at->next;
    read = KV_CONTAINER(at, chain_read, place);
    read->value = target->store[read->request.items[0].key].value;
    chain_plan(world, read_delay(world), EVENT_AFTER, target->id, read->id, 0);
}

/* What a syncing target says of keys and versions of its predecessor. */
static inline void compare_hear(chain_world *world, const chain_target *target,
                                const chain_message *request)
{
    chain_message answer = *request;

    answer.kind = MESSAGE_FORWARDED;
    answer.status = KV_OK;
    answer.tight = target->tight;
    if (request->forward == FORWARD_LIST)
        for (uint32_t key = 0; key < CHAIN_KEYS; key++)
            if (target->store[key].value != 0)
                answer.items[answer.count++].key = key;
    for (uint32_t i = 0; request->forward == KV_FORWARD_COMPARE && i < request->count; i++) {
        const chain_item *item = &request->items[i];

        answer.items[i].status = target->store[item->key].value == 0 ? KV_NOT_FOUND
                                 : here_already(target, item)        ? KV_OK
                                                                     : KV_EXISTS;
    }
    message_send(world, request->connection, true, &answer);
}

static inline void forward_hear(chain_world *world, chain_target *target,
                                const chain_message *request)
{
    kv_status status =
        kv_replica_admits(target->replica, KV_UPDATE_PEER, request->chain_version);
    chain_job *job;

    if (status != KV_OK) {
        target_refuse(world, target, request, status);
        return;
    }
    if (request->forward == KV_FORWARD_UPDATE || request->forward == KV_FORWARD_SYNC) {
        job = job_make(world, target, KV_UPDATE_PEER, request);
        chain_plan(world, chain_delay(world), EVENT_CAME, target->id, job->id, 0);
        return;
    }
    if (request->forward == KV_FORWARD_SYNCED && kv_replica_view_of(target->replica)->syncs)
        target->uptodate = request->chain_version;
    compare_hear(world, target, request);
}

/* Feeding a successor: pages of keys to compare, what it has too much, and the last word. */
static inline void resync_send(chain_world *world, chain_target *target)
{
    chain_resync *resync = &target->resync;
    chain_message message = {.kind = MESSAGE_FORWARD, .chain_version = resync->chain_version};
    uint32_t successor = kv_replica_view_of(target->replica)->successor;

    for (; resync->phase == RESYNC_COMPARE && message.count < RESYNC_PAGE &&
           resync->next_key < CHAIN_KEYS;
         resync->next_key++)
        if (target->store[resync->next_key].value != 0)
            message.items[message.count++] =
                (chain_item){.key = resync->next_key,
                             .version = target->store[resync->next_key].version};
    if (resync->phase == RESYNC_COMPARE && message.count == 0)
        resync->phase = RESYNC_LIST;
    message.forward = resync->phase == RESYNC_COMPARE ? (uint32_t)KV_FORWARD_COMPARE
                      : resync->phase == RESYNC_LIST  ? FORWARD_LIST
                                                      : (uint32_t)KV_FORWARD_SYNCED;
    if (target->successor != successor) {
        memset(target->peers, 0, sizeof(target->peers));
        target->successor = successor;
    }
    if (target->peers[0] == 0)
        target->peers[0] = connection_open(world, target->id, successor);
    message.tag = resync->tag = ++world->jobs_made;
    message_send(world, target->peers[0], false, &message);
}

static inline void resync_key(chain_world *world, chain_target *target, uint32_t key)
{
    chain_message nobody = {.count = 1, .items = {{.key = key}}};
    chain_job *job = job_make(world, target, KV_UPDATE_SYNC, &nobody);

    world->tally->syncs++;
    target->resync.job_count++;
    chain_plan(world, 0, EVENT_CAME, target->id, job->id, 0);
}

static inline void resync_event(chain_world *world, chain_target *target)
{
    chain_resync *resync = &target->resync;

    if (!resync->active || resync->tag != 0 || resync->job_count > 0 ||
        resync->phase == RESYNC_OVER)
        return;
    for (uint32_t key = 0; resync->refused != 0 && key < CHAIN_KEYS; key++)
        if (resync->refused & 1u << key)
            resync_key(world, target, key);
    if (resync->refused == 0 && resync->phase == RESYNC_SYNCED &&
        !kv_replica_settled(target->replica, resync->turns))
        chain_plan(world, MILLISECOND, EVENT_RESYNC, target->id, 0, 0);
    else if (resync->refused == 0)
        resync_send(world, target);
    resync->refused = 0;
}

/* What was not answered well is asked again, from where the last page began. */
static inline void resync_hear(chain_world *world, chain_target *target,
                               const chain_message *answer)
{
    chain_resync *resync = &target->resync;

    resync->tag = 0;
    if (answer->status != KV_OK) {
        resync->next_key = 0;
        if (resync->phase < RESYNC_SYNCED)
            resync->phase = RESYNC_COMPARE;
        chain_plan(world, 2 * MILLISECOND, EVENT_RESYNC, target->id, 0, 0);
        return;
    }
    for (uint32_t i = 0; i < answer->count; i++) {
        uint32_t key = answer->items[i].key;

        if (answer->forward == KV_FORWARD_COMPARE ? answer->items[i].status != KV_OK
                                                  : target->store[key].value == 0)
            resync_key(world, target, key);
    }
    resync->turns = kv_replica_turns(target->replica);
    if (answer->forward == FORWARD_LIST)
        resync->phase = RESYNC_SYNCED;
    else if (answer->forward == KV_FORWARD_SYNCED)
        resync->phase = RESYNC_OVER;
    chain_plan(world, 0, EVENT_RESYNC, target->id, 0, 0);
}

/* A connection is gone. To a successor: everything that waits goes out again. */
static inline void target_notice(chain_world *world, chain_target *target, uint32_t connection)
{
    bool peer = false;

    for (uint32_t i = 0; i < CHAIN_LOOPS; i++)
        if (target->peers[i] == connection) {
            target->peers[i] = 0;
            peer = true;
        }
    if (!peer)
        return;
    if (target->resync.tag != 0) {
        target->resync.tag = 0;
        target->resync.next_key = 0;
        if (target->resync.phase < RESYNC_SYNCED)
            target->resync.phase = RESYNC_COMPARE;
        chain_plan(world, MILLISECOND, EVENT_RESYNC, target->id, 0, 0);
    }
    kv_replica_severed(target->replica);
    target_pump(world, target);
}

/* A target that syncs may have missed updates before, so that its records are worth nothing. */
static inline void target_configure(chain_world *world, chain_target *target,
                                    const chain_routing *routing)
{
    kv_replica_view view = chain_view(world, routing, target->id);
    chain_resync *resync = &target->resync;
    uint32_t job_count = resync->job_count;

    if (target->fenced && (view.serves || view.syncs))
        return;
    target->fenced = false;
    if (routing->chain_version <= target->routing.chain_version)
        return;
    target->routing = *routing;
    if (view.syncs) {
        kv_channels_forget(target->channels);
        target->uptodate = 0;
    }
    assert(kv_replica_configure(target->replica, &view));
    *resync = (chain_resync){.active = view.successor_syncs, .chain_version = view.chain_version,
                             .job_count = job_count};
    if (resync->active)
        chain_plan(world, chain_delay(world), EVENT_RESYNC, target->id, 0, 0);
    target_pump(world, target);
}

static inline void target_hear(chain_world *world, chain_target *target,
                               const chain_message *message)
{
    if (message->kind == MESSAGE_ROUTING) {
        if (message->run == target->run && message->sent + LEASE > target->lease_end)
            target->lease_end = message->sent + LEASE;
        if (message->run == target->run || !target->fenced)
            target_configure(world, target, &message->routing);
    } else if (message->kind == MESSAGE_UPDATE) {
        update_hear(world, target, message);
    } else if (message->kind == MESSAGE_READ) {
        read_hear(world, target, message);
    } else if (message->kind == MESSAGE_FORWARD) {
        forward_hear(world, target, message);
    } else if (message->tag == target->resync.tag) {
        resync_hear(world, target, message);
    } else {
        job_hear(world, target, message);
    }
}

static inline void target_heartbeat(chain_world *world, chain_target *target)
{
    const kv_replica_view *view = kv_replica_view_of(target->replica);
    chain_message message = {.kind = MESSAGE_HEARTBEAT, .run = target->run, .sent = world->now,
                             .local = STATE_WAITING, .chain_version = view->chain_version};

    if (target->fenced)
        message.local = STATE_OFFLINE;
    else if (view->serves || (view->syncs && target->uptodate == view->chain_version))
        message.local = STATE_SERVING;
    message_drop_in(world, &message, target->id, ACTOR_MANAGER);
    chain_plan(world, HEARTBEAT, EVENT_HEARTBEAT, target->id, 0, 0);
}

#endif
