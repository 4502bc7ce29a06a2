/* Jobs of a simulated target: each is one update that its replica drives, from the message that
 * brought it to the reply. What a real node does with an engine and sockets, this does with a
 * table of values. */
#ifndef KV_CHAIN_JOB_H
#define KV_CHAIN_JOB_H

#include "chain_manager.h"

struct chain_job {
    kv_list place; /* on target.jobs */
    uint64_t id;
    kv_update update;
    kv_update_key keys[CHAIN_ITEMS_MAX];
    uint8_t key_bytes[CHAIN_ITEMS_MAX];
    uint8_t statuses[CHAIN_ITEMS_MAX];
    chain_item items[CHAIN_ITEMS_MAX];
    bool refused[CHAIN_ITEMS_MAX]; /* by this target, for want of space */
    uint32_t operation, client, forward;
    uint64_t sequence, came;
    bool if_absent, careful, deciding, applying;
    kv_channel *channel; /* NULL: not recorded here */
    uint32_t connection; /* who waits for it */
    chain_message request;
    uint32_t landed;     /* items that were applied so far */
};

static inline bool target_leased(const chain_world *world, const chain_target *target)
{
    return world->now < target->lease_end;
}

static inline chain_job *job_find(chain_target *target, uint64_t id)
{
    for (kv_list *at = target->jobs.next; at != &target->jobs; at = at->next)
        if (KV_CONTAINER(at, chain_job, place)->id == id)
            return KV_CONTAINER(at, chain_job, place);
    return NULL;
}

static inline chain_job *job_make(chain_world *world, chain_target *target,
                                  kv_update_source source, const chain_message *request)
{
    chain_job *job = calloc(1, sizeof(*job));

    assert(job != NULL && request->count <= CHAIN_ITEMS_MAX);
    job->id = ++world->jobs_made;
    job->request = *request;
    job->operation = request->operation;
    job->client = request->client;
    job->sequence = request->sequence;
    job->came = world->now;
    job->if_absent = request->if_absent;
    job->connection = request->connection;
    job->forward = source == KV_UPDATE_SYNC ? (uint32_t)KV_FORWARD_SYNC
                   : source == KV_UPDATE_PEER ? request->forward
                                              : (uint32_t)KV_FORWARD_UPDATE;
    job->update = (kv_update){.source = source,
                              .count = request->count,
                              .keys = job->keys,
                              .statuses = job->statuses,
                              .chain_version = request->chain_version,
                              .attempt = request->attempt,
                              .version = request->items[0].version};
    for (uint32_t i = 0; i < request->count; i++) {
        job->items[i] = request->items[i];
        job->statuses[i] = request->items[i].status;
        job->key_bytes[i] = (uint8_t)request->items[i].key;
        job->keys[i] = (kv_update_key){.key = &job->key_bytes[i], .key_size = 1,
                                       .hash = job->key_bytes[i]};
    }
    kv_list_append(&target->jobs, &job->place);
    return job;
}

/* Space is reserved before values are taken: what there is none for is refused, where it may be. */
static inline void job_reserve(chain_world *world, chain_target *target, chain_job *job)
{
    bool may = job->update.source == KV_UPDATE_CLIENT || job->request.careful;

    for (uint32_t i = 0; i < job->update.count; i++) {
        if (!may || !target->tight || job->operation != KV_OP_SET || job->statuses[i] != KV_OK ||
            chain_one_in(world, 2))
            continue;
        job->statuses[i] = KV_NO_SPACE;
        job->refused[i] = true;
        world->tally->refusals++;
    }
}

static inline bool here_already(const chain_target *target, const chain_item *item)
{
    return target->store[item->key].value != 0 &&
           target->store[item->key].version == item->version;
}

static inline void job_decide_client(chain_target *target, chain_job *job)
{
    for (uint32_t i = 0; i < job->update.count; i++) {
        bool present = target->store[job->items[i].key].value != 0;

        if (job->statuses[i] != KV_OK)
            continue;
        if (job->if_absent && present)
            job->statuses[i] = KV_EXISTS;
        if (job->operation == KV_OP_DELETE && !present)
            job->statuses[i] = KV_NOT_FOUND;
    }
}

/* What came before and is here already is not refused, and binds the successor. */
static inline void job_decide_peer(chain_target *target, chain_job *job)
{
    job->update.careful = job->update.careful && job->request.careful;
    for (uint32_t i = 0; i < job->update.count; i++)
        if ((job->refused[i] || job->statuses[i] == KV_OK) &&
            here_already(target, &job->items[i])) {
            job->statuses[i] = KV_OK;
            job->update.careful = false;
        }
}

/* The record begins when nothing can refuse the update any more. */
static inline void job_record_peer(chain_world *world, chain_target *target, chain_job *job)
{
    kv_channel_update update = {.client = {(uint8_t)(job->client + 1)}, .channel = 1,
                                .count = job->update.count, .sequence = job->sequence,
                                .forwarded = true};
    const uint8_t *statuses;

    if (job->update.source == KV_UPDATE_PEER && job->forward == KV_FORWARD_UPDATE &&
        job->update.state == KV_UPDATE_RUNNING)
        kv_channel_begin(target->channels, &update, world->now / MILLISECOND, &job->channel,
                         &statuses);
}

static inline void job_decide_sync(chain_target *target, chain_job *job)
{
    chain_item *item = &job->items[0];

    assert(job->update.count == 1);
    item->value = target->store[item->key].value;
    item->version = target->store[item->key].version;
    job->operation = item->value ? KV_OP_SET : KV_OP_DELETE;
}

static inline void job_decide(chain_world *world, chain_target *target, chain_job *job)
{
    bool tight = target->tight || target->successor_tight;
    kv_status status = KV_OK;

    job->deciding = false;
    job->update.careful = tight ? !chain_one_in(world, 6) : chain_one_in(world, 4);
    if (job->update.source == KV_UPDATE_CLIENT) {
        if (!target_leased(world, target))
            status = KV_WRONG_TARGET;
        job_decide_client(target, job);
    } else if (job->update.source == KV_UPDATE_PEER) {
        job_decide_peer(target, job);
    } else {
        job_decide_sync(target, job);
    }
    kv_replica_decided(target->replica, &job->update, status);
    job_record_peer(world, target, job);
    for (uint32_t i = 0; job->update.source == KV_UPDATE_CLIENT && i < job->update.count; i++)
        job->items[i].version = job->update.version + i;
}

/* One version is one value of one key, for ever. */
static inline void version_check(chain_world *world, const chain_item *item)
{
    uint64_t hash = kv_hash(1, &item->version, sizeof(item->version));

    for (uint64_t i = 0;; i++) {
        uint32_t at = (uint32_t)((hash + i) % CHAIN_VERSIONS_MAX);

        assert(i < CHAIN_VERSIONS_MAX);
        if (world->versions[at].version == 0) {
            world->versions[at].version = item->version;
            world->versions[at].value = item->value;
            world->versions[at].key = item->key;
            return;
        }
        if (world->versions[at].version != item->version)
            continue;
        if (world->versions[at].value != item->value || world->versions[at].key != item->key)
            chain_fail(world, "version %llx was given twice", (unsigned long long)item->version);
        return;
    }
}

/* The next item takes effect. True: all have. */
static inline bool job_land(chain_world *world, chain_target *target, chain_job *job)
{
    for (uint32_t i = job->landed; i < job->update.count; i++) {
        const chain_item *item = &job->items[i];

        job->landed = i + 1;
        if (job->statuses[i] != KV_OK)
            continue;
        if (job->operation == KV_OP_DELETE) {
            target->store[item->key].value = 0;
            target->store[item->key].version = 0;
        } else {
            version_check(world, item);
            target->store[item->key].value = item->value;
            target->store[item->key].version = item->version;
        }
        chain_say(world, "target %u: job %llu key %u is %u", target->id,
                  (unsigned long long)job->id, item->key, target->store[item->key].value);
        return false;
    }
    return true;
}

static inline void job_forward(chain_world *world, chain_target *target, chain_job *job)
{
    uint32_t *peer = &target->peers[job->id % CHAIN_LOOPS];
    chain_message message = {.kind = MESSAGE_FORWARD,
                             .tag = job->id,
                             .chain_version = job->update.forward_version,
                             .attempt = job->update.forward_attempt,
                             .forward = job->forward,
                             .operation = job->operation,
                             .careful = job->update.careful,
                             .client = job->client,
                             .sequence = job->sequence,
                             .count = job->update.count};

    if (target->successor != job->update.successor) {
        memset(target->peers, 0, sizeof(target->peers));
        target->successor = job->update.successor;
        target->successor_tight = false;
    }
    if (*peer == 0)
        *peer = connection_open(world, target->id, job->update.successor);
    for (uint32_t i = 0; i < job->update.count; i++) {
        message.items[i] = job->items[i];
        message.items[i].status = job->statuses[i];
    }
    message_send(world, *peer, false, &message);
}

static inline void job_record(chain_world *world, chain_target *target, chain_job *job)
{
    uint8_t statuses[CHAIN_ITEMS_MAX];
    uint64_t now_ms = world->now / MILLISECOND;

    if (!job->channel)
        return;
    for (uint32_t i = 0; i < job->update.count; i++)
        statuses[i] =
            job->update.status != KV_OK ? (uint8_t)job->update.status : job->statuses[i];
    if (job->update.status == KV_OK || job->update.status == KV_OUTCOME_UNKNOWN)
        kv_channel_end(target->channels, job->channel, statuses, now_ms);
    else
        kv_channel_cancel(target->channels, job->channel, now_ms);
}

static inline void job_reply(chain_world *world, const chain_target *target, const chain_job *job)
{
    chain_message message = job->request;

    message.kind = job->update.source == KV_UPDATE_PEER ? MESSAGE_FORWARDED : MESSAGE_REPLY;
    message.status = job->update.status;
    message.tight = target->tight;
    for (uint32_t i = 0; i < job->update.count; i++)
        message.items[i].status = job->statuses[i];
    if (job->connection != 0)
        message_send(world, job->connection, true, &message);
}

/* A key whose value its successor had no space for is sent again later. */
static inline void job_end_sync(chain_world *world, chain_target *target, const chain_job *job)
{
    chain_resync *resync = &target->resync;

    assert(resync->job_count > 0);
    resync->job_count--;
    if (job->update.status == KV_OK && job->statuses[0] != KV_OK)
        resync->refused |= 1u << job->items[0].key;
    chain_plan(world, 0, EVENT_RESYNC, target->id, 0, 0);
}

static inline void job_free(chain_job *job)
{
    kv_list_remove(&job->place);
    free(job);
}

static inline void job_end(chain_world *world, chain_target *target, chain_job *job)
{
    chain_say(world, "target %u: job %llu ends with %d", target->id, (unsigned long long)job->id,
              (int)job->update.status);
    job_record(world, target, job);
    if (job->update.source == KV_UPDATE_SYNC)
        job_end_sync(world, target, job);
    else
        job_reply(world, target, job);
    job_free(job);
}

/* The process is about to be killed: what it had not applied. */
static inline void job_kill(chain_target *target, const chain_job *job)
{
    if (job->update.state != KV_UPDATE_RUNNING || job->update.source == KV_UPDATE_SYNC)
        return;
    for (uint32_t i = job->landed; i < job->update.count; i++) {
        uint64_t *since = &target->unapplied_since[job->items[i].key];

        if (*since == 0 || job->came < *since)
            *since = job->came;
    }
}

/* Applying takes long at a device that is slow. */
static inline uint64_t land_delay(chain_world *world, const chain_target *target)
{
    if (target->slow_until > world->now)
        return chain_draw(world, target->slow_until - world->now + 1);
    return chain_draw(world, 500);
}

/* Carry out what the replica wants. */
static inline void target_pump(chain_world *world, chain_target *target)
{
    kv_update *update;
    uint32_t effects;

    CHAIN_INVARIANTS(target->replica);
    while ((update = kv_replica_next(target->replica, &effects))) {
        chain_job *job = KV_CONTAINER(update, chain_job, update);

        if (effects & KV_EFFECT_DECIDE) {
            job->deciding = true;
            chain_plan(world, chain_one_in(world, 3) ? chain_delay(world) : 0, EVENT_DECIDE,
                       target->id, job->id, 0);
        }
        if (effects & KV_EFFECT_FORWARD)
            job_forward(world, target, job);
        if (effects & KV_EFFECT_APPLY) {
            job->applying = true;
            chain_plan(world, land_delay(world, target), EVENT_LAND, target->id, job->id, 0);
        }
        if (effects & KV_EFFECT_END)
            job_end(world, target, job);
    }
    CHAIN_INVARIANTS(target->replica);
}

static inline void job_event(chain_world *world, chain_target *target, const chain_event *event)
{
    chain_job *job = job_find(target, event->a);

    if (!job)
        return;
    if (event->kind == EVENT_CAME) {
        job_reserve(world, target, job);
        kv_replica_came(target->replica, &job->update);
    } else if (event->kind == EVENT_DECIDE) {
        job_decide(world, target, job);
    } else if (event->kind == EVENT_LAND) {
        if (!job_land(world, target, job)) {
            chain_plan(world, land_delay(world, target), EVENT_LAND, target->id, job->id, 0);
            return;
        }
        job->applying = false;
        kv_replica_applied(target->replica, &job->update);
    } else if (kv_replica_forwards(&job->update, event->b >> 20, event->b & 0xfffff)) {
        job_forward(world, target, job);
    }
    target_pump(world, target);
}

/* The successor's word on a job. */
static inline void job_hear(chain_world *world, chain_target *target, const chain_message *message)
{
    chain_job *job = job_find(target, message->tag);
    uint8_t statuses[CHAIN_ITEMS_MAX];

    target->successor_tight = message->tight;
    if (!job)
        return;
    if (message->status != KV_OK) {
        chain_plan(world, 1000 + chain_draw(world, 5 * MILLISECOND), EVENT_RESEND, target->id,
                   job->id, message->chain_version << 20 | message->attempt);
        return;
    }
    for (uint32_t i = 0; i < message->count; i++)
        statuses[i] = message->items[i].status;
    if (!kv_replica_acknowledged(target->replica, &job->update, message->chain_version,
                                 message->attempt, statuses))
        chain_fail(world, "a target refused what it was bound to apply");
    target_pump(world, target);
}

#endif
