/* Jobs of a target: each is one update that its replica drives, from the message that brought it to
 * the reply. What native/node does with loops, locks and sockets, this does in turns of one
 * thread; see native/node/chain.h for the rules. */

#include "simulator.h"

#include "bytes/checksum.h"

#include <errno.h>

#define APPLY_TRIES 500u /* of deletes that find no room in the journal, */
#define APPLY_PAUSE (10 * MILLISECOND) /* so often */

sim_job *sim_job_find(sim_target *target, uint64_t id)
{
    for (kv_list *at = target->jobs.next; at != &target->jobs; at = at->next)
        if (KV_CONTAINER(at, sim_job, place)->id == id)
            return KV_CONTAINER(at, sim_job, place);
    return NULL;
}

/* Keys of its items come next. */
sim_job *sim_job_make(sim_world *world, sim_target *target, kv_update_source source,
                      uint32_t operation, uint32_t count)
{
    sim_job *job = calloc(1, sizeof(*job));

    assert(job != NULL && count > 0 && count <= SIM_ITEMS_MAX);
    job->id = ++world->numbers;
    job->operation = operation;
    job->came = world->now;
    job->forward = source == KV_UPDATE_SYNC ? KV_FORWARD_SYNC : KV_FORWARD_UPDATE;
    job->update = (kv_update){.source = source, .count = count, .keys = job->keys,
                              .statuses = job->statuses};
    sim_owner_init(&job->owner, OWNER_JOB);
    kv_list_append(&target->jobs, &job->place);
    return job;
}

void sim_job_free(sim_target *target, sim_job *job)
{
    assert(!job->owner.operation);
    target->unretained_count -= !job->retained;
    kv_list_remove(&job->owner.ready);
    kv_list_remove(&job->place);
    free(job->message);
    free(job);
    if (target->resync.active && target->resync.phase == RESYNC_QUIET)
        sim_resync_look(target->world, target);
}

/* It never enters the replica. */
static void job_withdraw(sim_world *world, sim_target *target, sim_job *job, kv_status status);

/* ---- its values come ---- */

static void refusals_take(sim_world *world, sim_target *target, sim_job *job)
{
    uint32_t count = job->update.count;

    assert(count <= SIM_ITEMS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        kv_status refusal = job->owner.answered || !job->owner.operation
                                ? (kv_status)job->engine_items[i].status
                                : kv_operation_refusal(job->owner.operation, i);

        if (job->statuses[i] != KV_OK || refusal == KV_OK)
            continue;
        if (refusal == KV_UNAVAILABLE) {
            sim_target_fail(world, target, EIO, "its device has failed");
            job_withdraw(world, target, job, KV_WRONG_TARGET);
            return;
        }
        if (job->update.source != KV_UPDATE_CLIENT) {
            job->refusals[i] = (uint8_t)refusal;
        } else {
            job->statuses[i] = (uint8_t)refusal;
            world->tally.refusals++;
        }
    }
}

static void job_came(sim_world *world, sim_target *target, sim_job *job)
{
    if (job->operation == KV_OP_SET && job->update.source != KV_UPDATE_SYNC)
        refusals_take(world, target, job);
    if (job->ending)
        return;
    job->entered = true;
    kv_replica_came(target->replica, &job->update);
}

static const uint8_t *value_of(sim_world *world, const sim_job *job, uint32_t i)
{
    static uint8_t value[1u << 20];
    uint32_t at = 0;

    if (job->values) {
        for (uint32_t k = 0; k < i; k++)
            at += job->engine_items[k].value_size;
        return job->values + at;
    }
    sim_value_fill(world, job->items[i].key, job->items[i].write, value);
    return value;
}

/* False: there is no memory for the next bytes. */
static bool values_push(sim_world *world, sim_job *job)
{
    while (job->pushing < job->update.count && !job->owner.answered) {
        uint32_t i = job->pushing, size = job->engine_items[i].value_size;

        if (size > 0)
            job->pushed += kv_operation_push(job->owner.operation, i,
                                             value_of(world, job, i) + job->pushed,
                                             size - job->pushed);
        if (job->pushed < size)
            return false;
        job->pushing++;
        job->pushed = 0;
    }
    return true;
}

/* Values that come slowly hold up what follows them on their connection. */
static void values_delay(sim_world *world, const sim_target *target, sim_job *job)
{
    uint64_t delay;

    if (world->options.receive_us == 0 || !sim_one_in(&world->network, 4))
        return;
    delay = sim_draw(&world->network, world->options.receive_us * MICROSECOND);
    job->late = true;
    world->connections[job->message->connection].values_until = world->now + delay;
    sim_plan(world, delay, EVENT_VALUES, target->node->id, target->number, job->id, 0);
}

static void receive_begin(sim_world *world, sim_target *target, sim_job *job)
{
    for (uint32_t i = 0; i < job->update.count; i++) {
        kv_item *item = &job->engine_items[i];

        item->key = (uint64_t)(uintptr_t)job->key_bytes[i];
        item->key_size = SIM_KEY_SIZE;
        if (job->update.source == KV_UPDATE_CLIENT) {
            item->value_size = sim_value_size(world, job->items[i].write);
            job->stats[i].checksum =
                kv_checksum(0, value_of(world, job, i), item->value_size);
        }
    }
    job->request = (kv_request){.items = job->engine_items,
                                .stats = job->stats,
                                .count = job->update.count,
                                .operation = KV_OP_RECEIVE,
                                .flags = KV_REQUEST_VERSIONED | KV_REQUEST_HELD};
    job->request.flags |= job->retained ? KV_REQUEST_RETAINED : 0;
    job->request.flags |= job->forward == KV_FORWARD_SYNC ? KV_REQUEST_EXACT : 0;
    values_delay(world, target, job);
    if (!sim_storage_begin(target, &job->owner, &job->request))
        job_withdraw(world, target, job, KV_BUSY);
}

void sim_job_begin(sim_world *world, sim_target *target, sim_job *job)
{
    bool sync = job->update.source == KV_UPDATE_SYNC;

    for (uint32_t i = 0; i < job->update.count; i++) {
        sim_key_bytes(job->items[i].key, job->key_bytes[i]);
        job->keys[i] = (kv_update_key){.key = (const uint8_t *)job->key_bytes[i],
                                       .key_size = SIM_KEY_SIZE,
                                       .hash = job->items[i].key};
    }
    job->retained = sync || job->operation != KV_OP_SET ||
                    kv_replica_view_of(target->replica)->has_successor;
    target->unretained_count += !job->retained;
    if (job->operation == KV_OP_SET && !sync)
        receive_begin(world, target, job);
    else
        job_came(world, target, job);
}

/* Nothing can refuse it any more: who repeats it here later learns what became of it. */
static void record_begin(sim_world *world, sim_target *target, sim_job *job)
{
    const sim_message *message = job->message;
    kv_channel_update update = {.channel = 1, .count = job->update.count, .forwarded = true};
    const uint8_t *statuses;

    if (job->recorded || job->update.source != KV_UPDATE_PEER || message->sequence == 0)
        return;
    job->recorded = true;
    update.client[0] = (uint8_t)(message->client + 1);
    update.sequence = message->sequence;
    if (kv_channel_begin(target->node->channels, &update, world->now / MILLISECOND, &job->channel,
                         &statuses) != KV_CHANNEL_BEGUN)
        job->channel = NULL;
}

/* ---- it is applied ---- */

static void item_applied(sim_world *world, sim_target *target, sim_job *job, uint32_t i,
                         kv_status status)
{
    bool passed = status == KV_NOT_FOUND && job->operation != KV_OP_SET;

    if (job->statuses[i] != KV_OK || status == KV_OK)
        return;
    if (passed && job->update.source != KV_UPDATE_CLIENT)
        return; /* a syncing target does not have it yet */
    job->statuses[i] = (uint8_t)status;
    if (passed)
        return;
    sim_job_lose(target, job);
    sim_target_fail(world, target, status == KV_NO_SPACE ? ENOSPC : EIO,
                    "it cannot apply an update of its chain");
}

static void applied(sim_target *target, sim_job *job)
{
    job->applying = false;
    kv_replica_applied(target->replica, &job->update);
}

static void keys_change(sim_world *world, sim_target *target, sim_job *job)
{
    job->apply = (kv_request){.items = job->apply_items, .operation = job->operation};
    for (uint32_t i = 0; i < job->update.count; i++)
        if (job->statuses[i] == KV_OK && !job->here[i]) {
            job->apply_indices[job->apply.count] = i;
            job->apply_items[job->apply.count++] =
                (kv_item){.key = (uint64_t)(uintptr_t)job->key_bytes[i], .key_size = SIM_KEY_SIZE};
        }
    if (job->apply.count == 0) {
        applied(target, job);
    } else if (!sim_storage_begin(target, &job->owner, &job->apply)) {
        sim_target_fail(world, target, ENOMEM, "it cannot apply an update of its chain");
        applied(target, job);
    }
}

/* False: all of them came to something. */
static bool keys_pause(sim_world *world, sim_target *target, sim_job *job)
{
    bool again = false;

    for (uint32_t k = 0; k < job->apply.count; k++) {
        uint32_t i = job->apply_indices[k];
        kv_status status = (kv_status)job->apply_items[k].status;

        if (status == KV_NO_SPACE && job->tries < APPLY_TRIES) {
            again = true;
            continue;
        }
        item_applied(world, target, job, i, status);
        job->here[i] = true;
    }
    if (again) {
        job->tries++;
        job->owner.answered = false;
        sim_plan(world, APPLY_PAUSE, EVENT_KEYS_AGAIN, target->node->id, target->number, job->id,
                 0);
    }
    return again;
}

static void answered(sim_world *world, sim_target *target, sim_job *job)
{
    if (!job->settled || !job->applying)
        return;
    if (job->operation != KV_OP_SET && keys_pause(world, target, job))
        return;
    for (uint32_t i = 0; job->operation == KV_OP_SET && i < job->update.count; i++)
        item_applied(world, target, job, i, (kv_status)job->engine_items[i].status);
    applied(target, job);
}

static void apply(sim_world *world, sim_target *target, sim_job *job)
{
    assert(!job->settled);
    job->settled = job->applying = true;
    if (job->operation != KV_OP_SET) {
        keys_change(world, target, job);
        return;
    }
    for (uint32_t i = 0; i < job->update.count; i++)
        if (job->statuses[i] == KV_OK)
            sim_version_note(world, job->items[i].key, job->versions[i], job->items[i].write);
    if (job->owner.answered) { /* every item was refused, or its device failed meanwhile */
        answered(world, target, job);
        return;
    }
    for (uint32_t i = 0; i < job->update.count; i++)
        job->stats[i].version = job->versions[i];
    kv_operation_settle(job->owner.operation, job->statuses);
    sim_storage_claim(target, &job->owner);
}

/* ---- it ends ---- */

static void record_end(sim_world *world, sim_target *target, sim_job *job)
{
    uint8_t statuses[SIM_ITEMS_MAX];
    kv_status status = job->end_status;
    uint64_t now_ms = world->now / MILLISECOND;

    if (!job->channel)
        return;
    for (uint32_t i = 0; i < job->update.count; i++)
        statuses[i] = status != KV_OK ? (uint8_t)status : job->statuses[i];
    if (status == KV_OK || status == KV_OUTCOME_UNKNOWN)
        kv_channel_end(target->node->channels, job->channel, statuses, now_ms);
    else
        kv_channel_cancel(target->node->channels, job->channel, now_ms);
    job->channel = NULL;
}

static void reply(sim_world *world, sim_target *target, sim_job *job)
{
    const sim_message *request = job->message;
    kv_status status = job->end_status;
    uint8_t statuses[SIM_ITEMS_MAX];
    sim_message *answer;

    assert(job->update.count <= SIM_ITEMS_MAX);
    for (uint32_t i = 0; i < job->update.count; i++)
        statuses[i] = job->repeated && job->here[i] ? job->refusals[i] : job->statuses[i];
    if (job->update.source == KV_UPDATE_PEER) {
        if (status != KV_OK && status != KV_BUSY)
            status = KV_WRONG_TARGET;
        sim_forwarded_send(world, target, request, status, statuses, job->update.count);
    } else if (status == KV_OUTCOME_UNKNOWN) {
        sim_cut(world, request->connection); /* the client asks elsewhere */
    } else {
        answer = sim_message_make(0);
        *answer = *request;
        answer->kind = SIM_REPLY;
        answer->status = status;
        for (uint32_t i = 0; i < job->update.count; i++)
            answer->items[i].status = statuses[i];
        sim_answer(world, request, answer);
    }
}

/* What it kept is given back; the last step of its operation frees it. */
static void conclude(sim_world *world, sim_target *target, sim_job *job)
{
    job->concluded = true;
    record_end(world, target, job);
    if (job->update.source == KV_UPDATE_SYNC)
        sim_resync_job_ended(world, target, job);
    else
        reply(world, target, job);
    sim_say(world, "target %u: job %llu ends with %d", target->number, (unsigned long long)job->id,
            (int)job->end_status);
    if (!job->owner.operation) {
        sim_job_free(target, job);
        return;
    }
    for (uint32_t i = 0; i < job->update.count; i++)
        if (job->lent[i])
            kv_operation_return(job->owner.operation, i);
    if (job->request.flags & KV_REQUEST_RETAINED) {
        kv_operation_release(job->owner.operation);
        sim_storage_claim(target, &job->owner);
    }
}

static void job_end(sim_world *world, sim_target *target, sim_job *job, kv_status status)
{
    bool sync = job->update.source == KV_UPDATE_SYNC;

    job->ending = true;
    job->end_status = status;
    if (job->owner.operation && !job->owner.answered && !sync)
        kv_operation_abort(job->owner.operation, KV_CANCELLED);
    if (!job->owner.operation || job->owner.answered || sync)
        conclude(world, target, job);
}

static void job_withdraw(sim_world *world, sim_target *target, sim_job *job, kv_status status)
{
    if (!job->ending)
        job_end(world, target, job, status);
}

/* ---- what happens to it ---- */

void sim_job_stepped(sim_world *world, sim_target *target, sim_job *job)
{
    if (job->concluded) {
        if (!job->owner.operation)
            sim_job_free(target, job);
    } else if (job->update.source == KV_UPDATE_SYNC) {
        sim_sync_stepped(world, target, job);
    } else if (job->ending) {
        if (job->owner.answered)
            conclude(world, target, job);
    } else if (!job->entered) {
        if (!job->late && values_push(world, job)) {
            if (job->owner.operation && !job->owner.answered)
                sim_storage_claim(target, &job->owner);
            job_came(world, target, job);
        }
    } else if (job->owner.answered) {
        answered(world, target, job);
    }
}

void sim_job_event(sim_world *world, sim_target *target, const sim_event *event)
{
    sim_job *job = sim_job_find(target, event->a);

    if (!job || job->concluded)
        return;
    if (event->kind == EVENT_VALUES) {
        job->late = false;
        sim_job_stepped(world, target, job);
    } else if (event->kind == EVENT_DECIDE && job->deciding) {
        sim_job_take_turn(world, target, job);
    } else if (event->kind == EVENT_KEYS_AGAIN && job->applying && job->owner.operation) {
        sim_plan(world, APPLY_PAUSE, EVENT_KEYS_AGAIN, event->actor, event->target, event->a, 0);
    } else if (event->kind == EVENT_KEYS_AGAIN && job->applying) {
        keys_change(world, target, job);
    } else if (event->kind == EVENT_RESEND &&
               kv_replica_forwards(&job->update, event->b >> 20, event->b & 0xfffff)) {
        sim_forward(world, target, job);
    }
}

static void carry_out(sim_world *world, sim_target *target, sim_job *job, uint32_t effects)
{
    bool runs = effects & (KV_EFFECT_APPLY | KV_EFFECT_FORWARD);

    if (runs && job->update.source == KV_UPDATE_CLIENT)
        for (uint32_t i = 0; i < job->update.count; i++)
            job->versions[i] = job->update.version + i;
    if (runs)
        record_begin(world, target, job);
    if (effects & KV_EFFECT_DECIDE) {
        job->deciding = true;
        if (sim_one_in(&world->network, 8))
            sim_plan(world, sim_delay(world), EVENT_DECIDE, target->node->id, target->number,
                     job->id, 0);
        else
            sim_job_take_turn(world, target, job);
    }
    if (effects & KV_EFFECT_APPLY)
        apply(world, target, job);
    if (effects & KV_EFFECT_FORWARD)
        sim_forward(world, target, job);
    if (effects & KV_EFFECT_END)
        job_end(world, target, job, job->update.status);
}

void sim_turn(sim_world *world, sim_target *target)
{
    kv_update *update;
    uint32_t effects;

    if (!target->open)
        return;
    SIM_INVARIANTS(target->replica);
    for (bool moved = true; moved;) {
        moved = sim_storage_step(world, target);
        while ((update = kv_replica_next(target->replica, &effects))) {
            carry_out(world, target, KV_CONTAINER(update, sim_job, update), effects);
            moved = true;
        }
    }
    SIM_INVARIANTS(target->replica);
    sim_show(target);
    sim_storage_stir(world, target);
}
