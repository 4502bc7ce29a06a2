/* A simulated node: its process with its targets, what it is told by its owner, and what it hears
 * from others. */

#include "simulator.h"

#include <errno.h>

static uint64_t clock_of(const sim_world *world, const sim_node *node)
{
    uint64_t passed = world->now - node->clock_from;

    return node->clock_base + passed +
           (uint64_t)((int64_t)(passed / 1000) * node->clock_rate / 1000);
}

uint64_t sim_node_clock(const sim_world *world, uint32_t node)
{
    return clock_of(world, &world->nodes[node]);
}

void sim_node_clock_rate(sim_world *world, uint32_t number, int32_t parts_per_million)
{
    sim_node *node = &world->nodes[number];

    node->clock_base = clock_of(world, node);
    node->clock_from = world->now;
    node->clock_rate = parts_per_million;
}

void sim_node_wall_jump(sim_world *world, uint32_t node, int64_t ms)
{
    world->nodes[node].wall_ms = ms;
}

bool sim_leased(const sim_world *world, const sim_node *node)
{
    return clock_of(world, node) < node->lease_end;
}

sim_target *sim_target_of(sim_world *world, uint32_t number)
{
    sim_node *node = &world->nodes[(number - 1) / SIM_TARGETS_PER_NODE];

    return &node->targets[(number - 1) % SIM_TARGETS_PER_NODE];
}

int sim_node_up(const sim_world *world, uint32_t node)
{
    return world->nodes[node].up;
}

void sim_show(sim_target *target)
{
    uint64_t given_up = kv_replica_given_up(target->replica);
    bool serves = kv_replica_view_of(target->replica)->serves;

    if (!serves)
        target->epoch = 0;
    else if (target->epoch == 0 || given_up != target->given_up)
        target->epoch = ++target->world->numbers;
    target->given_up = given_up;
}

/* ---- its life ---- */

static bool target_start(sim_world *world, sim_target *target)
{
    kv_list_init(&target->jobs);
    kv_list_init(&target->reads);
    target->place = (kv_chain_place){.successor_node = KV_NO_SUCCESSOR};
    target->offline = false;
    target->offline_errno = 0;
    target->uptodate = target->epoch = target->given_up = target->space_at = 0;
    target->successor_free = target->retry_at = 0;
    target->unretained_count = target->successor = 0;
    memset(target->peers, 0, sizeof(target->peers));
    target->resync = (sim_resync){0};
    assert(kv_replica_open(SIM_PLACES, &target->replica) == 0);
    return sim_storage_open(world, target);
}

static uint64_t objects_of(const sim_target *target)
{
    kv_store_statistics statistics;

    if (!target->open)
        return 0;
    kv_engine_statistics(target->engine, &statistics);
    return statistics.objects;
}

uint64_t sim_node_objects(const sim_world *world, uint32_t node)
{
    uint64_t objects = 0;

    for (uint32_t i = 0; i < world->options.targets_per_node; i++)
        objects += objects_of(&world->nodes[node].targets[i]);
    return objects;
}

/* A process that starts with objects does not know what became of the updates before it. Returns
 * how many of its targets do not open. */
int sim_node_start(sim_world *world, uint32_t number)
{
    kv_channels_options options = {SIM_CLIENTS_MAX, 1, 1u << 20, world->options.seed};
    sim_node *node = &world->nodes[number];
    int failed = 0;

    assert(!node->up);
    node->run++;
    node->up = true;
    node->dying = false;
    node->paused_until = node->lease_end = node->routing_version = 0;
    assert(kv_channels_open(&options, &node->channels) == 0);
    for (uint32_t i = 0; i < world->options.targets_per_node; i++)
        failed += !target_start(world, &node->targets[i]);
    if (sim_node_objects(world, number) > 0)
        kv_channels_forget(node->channels);
    sim_say(world, "node %u starts", number);
    sim_mark(world, "start", number);
    return failed;
}

/* Take effects without carrying them out. */
static void discard(sim_target *target)
{
    kv_update *update;
    uint32_t effects;

    while ((update = kv_replica_next(target->replica, &effects))) {
        sim_job *job = KV_CONTAINER(update, sim_job, update);

        job->applying |= (effects & KV_EFFECT_APPLY) != 0;
        job->deciding |= (effects & KV_EFFECT_DECIDE) != 0;
    }
}

void sim_job_lose(sim_target *target, const sim_job *job)
{
    if (job->update.state != KV_UPDATE_RUNNING || job->update.source == KV_UPDATE_SYNC ||
        job->update.applied)
        return;
    for (uint32_t i = 0; i < job->update.count; i++) {
        uint64_t *since = &target->unapplied_since[job->items[i].key];

        if (*since == 0 || job->came < *since)
            *since = job->came;
    }
}

/* The replica is emptied by the way that leaving the chain would take. */
static void replica_empty(sim_target *target)
{
    kv_replica_view none = {0};
    kv_list *at;

    kv_replica_configure(target->replica, &none);
    discard(target);
    for (at = target->jobs.next; at != &target->jobs; at = at->next) {
        sim_job *job = KV_CONTAINER(at, sim_job, place);

        if (job->deciding && job->update.state == KV_UPDATE_RUNNING)
            kv_replica_decided(target->replica, &job->update, KV_CANCELLED);
        discard(target);
        if (job->applying && job->update.state == KV_UPDATE_RUNNING)
            kv_replica_applied(target->replica, &job->update);
        discard(target);
    }
}

static void target_die(sim_target *target, bool power)
{
    kv_list *at;

    target->resync.active = false;
    for (at = target->jobs.next; at != &target->jobs; at = at->next)
        sim_job_lose(target, KV_CONTAINER(at, sim_job, place));
    replica_empty(target);
    while ((at = kv_list_pop(&target->jobs))) {
        sim_job *job = KV_CONTAINER(at, sim_job, place);

        sim_owner_abandon(&job->owner);
        free(job->message);
        free(job);
    }
    while (!kv_list_empty(&target->reads)) {
        sim_read *read = KV_CONTAINER(target->reads.next, sim_read, place);

        sim_owner_abandon(&read->owner);
        sim_read_free(read);
    }
    kv_replica_close(target->replica);
    sim_storage_close(target, power);
}

void sim_node_die(sim_world *world, sim_node *node, bool power)
{
    sim_say(world, "node %u is killed%s", node->id, power ? " by a power cut" : "");
    sim_mark(world, "kill", node->id);
    world->tally.kills += !power;
    world->tally.power_cuts += power;
    node->up = node->dying = false;
    for (uint32_t i = 0; i < world->options.targets_per_node; i++)
        target_die(&node->targets[i], power);
    kv_channels_close(node->channels);
    for (uint32_t i = 1; i <= world->connection_count; i++) {
        const sim_connection *connection = &world->connections[i];

        if (connection->open && (connection->from == node->id || connection->to == node->id))
            sim_cut(world, i);
    }
}

/* ---- what its owner says ---- */

static void excuse(sim_world *world, sim_target *target)
{
    for (uint32_t key = 0; key < world->key_count; key++)
        if (target->unapplied_since[key] != 0) {
            sim_excuse_key(world, key, target->unapplied_since[key]);
            target->unapplied_since[key] = 0;
        }
}

static void configure(sim_world *world, sim_target *target, const kv_chain_place *place)
{
    const kv_replica_view *before = kv_replica_view_of(target->replica);
    bool took_part = before->serves || before->syncs;
    uint64_t version_before = before->chain_version;
    kv_replica_view view = {.chain_version = place->chain_version,
                            .serves = place->flags & KV_CHAIN_SERVES,
                            .syncs = place->flags & KV_CHAIN_SYNCS,
                            .head = place->flags & KV_CHAIN_HEAD,
                            .has_successor = place->successor_node != KV_NO_SUCCESSOR,
                            .successor_syncs = place->successor_flags & KV_CHAIN_SYNCS,
                            .successor = place->successor};

    if (place->flags == 0)
        view = (kv_replica_view){0};
    if ((view.syncs && (view.chain_version != version_before || !took_part)) ||
        (view.serves && !took_part && view.chain_version > 1))
        kv_channels_forget(target->node->channels);
    if (target->offline || !kv_replica_configure(target->replica, &view))
        return;
    if (view.syncs)
        memset(target->unapplied_since, 0, world->key_count * sizeof(uint64_t));
    if (view.serves && !took_part)
        excuse(world, target);
    if (place->chain != 0)
        target->chain = place->chain - 1;
    target->place = *place;
    sim_say(world, "target %u: chain %u version %llu, flags %u, successor %u", target->number,
            place->chain, (unsigned long long)place->chain_version, place->flags,
            place->successor);
    sim_resync_configure(world, target);
    sim_turn(world, target);
}

void sim_node_set_chains(sim_world *world, uint32_t number, uint64_t routing_version,
                         const kv_chain_place *places, uint32_t count)
{
    sim_node *node = &world->nodes[number];

    if (!node->up || routing_version < node->routing_version)
        return;
    node->routing_version = routing_version;
    sim_mark(world, "chains", routing_version);
    for (uint32_t i = 0; i < world->options.targets_per_node; i++) {
        sim_target *target = &node->targets[i];
        kv_chain_place place = {.target = target->number, .successor_node = KV_NO_SUCCESSOR};

        for (uint32_t k = 0; k < count; k++)
            if (places[k].target == target->number)
                place = places[k];
        if (target->open)
            configure(world, target, &place);
    }
}

void sim_node_set_lease(sim_world *world, uint32_t number, uint64_t end_ns)
{
    sim_node *node = &world->nodes[number];

    if (end_ns == 0 || end_ns > node->lease_end)
        node->lease_end = end_ns;
}

/* Its engine does nothing any more: it answers no request with a value. */
static bool engine_offline(const sim_target *target)
{
    kv_store_statistics statistics;

    kv_engine_statistics(target->engine, &statistics);
    return statistics.offline != 0;
}

/* P4. */
void sim_check_fenced(sim_world *world, uint32_t number)
{
    const sim_target *target = sim_target_of(world, number);
    const sim_node *node = target->node;

    if (!node->up || !target->open || target->offline || engine_offline(target) ||
        !sim_leased(world, node) || !kv_replica_view_of(target->replica)->serves)
        return;
    sim_fail(world, "target %u lost its place and may serve for %.3f s yet (P4)", number,
             (double)(node->lease_end - clock_of(world, node)) / 1e9);
}

static uint32_t local_of(const sim_target *target, uint64_t offline)
{
    const kv_replica_view *view = kv_replica_view_of(target->replica);

    if (!target->open || target->offline || offline != 0)
        return KV_LOCAL_OFFLINE;
    if (view->serves || (view->syncs && target->uptodate == view->chain_version))
        return KV_LOCAL_UPTODATE;
    return KV_LOCAL_ONLINE;
}

int sim_node_chain_states(sim_world *world, uint32_t number, kv_chain_state *states, int max)
{
    sim_node *node = &world->nodes[number];
    int count = 0;

    if (!node->up)
        return 0;
    for (uint32_t i = 0; i < world->options.targets_per_node && count < max; i++) {
        sim_target *target = &node->targets[i];
        kv_store_statistics statistics = {.offline = EIO};
        uint64_t oldest_ns = 0, silent_ns = 0;

        if (target->open) {
            kv_engine_statistics(target->engine, &statistics);
            kv_engine_watch_io(target->engine, world->now, &oldest_ns, &silent_ns);
        }
        states[count++] = (kv_chain_state){
            .target = target->number,
            .local = local_of(target, statistics.offline),
            .error = (int32_t)(target->offline ? target->offline_errno : statistics.offline),
            .chain_version = target->place.flags ? target->place.chain_version : 0,
            .settled = kv_replica_is_settled(target->replica),
            .objects = statistics.objects,
            .capacity = statistics.capacity,
            .space_used = statistics.space_used,
            .space_free = statistics.space_free,
            .io_oldest_ms = oldest_ns / MILLISECOND,
            .io_silent_ms = silent_ns / MILLISECOND,
        };
    }
    return count;
}

void sim_target_fail(sim_world *world, sim_target *target, int error, const char *why)
{
    kv_replica_view none = {0};

    if (target->offline)
        return;
    sim_say(world, "target %u leaves its chain: %s", target->number, why);
    target->offline = true;
    target->offline_errno = (uint32_t)error;
    kv_replica_configure(target->replica, &none);
    sim_resync_configure(world, target);
    sim_tell(world, SIM_OFFLINE, target->node->id, target->number);
}

/* ---- what it hears ---- */

/* A client's update: the record of its channel decides whether it is one. */
static void update_hear(sim_world *world, sim_target *target, sim_message *message)
{
    kv_channel_update update = {.client = {(uint8_t)(message->client + 1)}, .channel = 1,
                                .count = message->count, .sequence = message->sequence,
                                .repeated = message->repeated};
    const uint8_t *statuses = NULL;
    kv_channel *channel = NULL;
    kv_channel_verdict verdict;
    sim_job *job;

    verdict = kv_channel_begin(target->node->channels, &update, world->now / MILLISECOND, &channel,
                               &statuses);
    if (verdict == KV_CHANNEL_BEGUN) {
        job = sim_job_make(world, target, KV_UPDATE_CLIENT, message->operation, message->count);
        job->update.chain_version = message->chain_version;
        job->if_absent = message->if_absent;
        job->channel = channel;
        job->message = message;
        memcpy(job->items, message->items, sizeof(job->items));
        sim_job_begin(world, target, job);
        return;
    }
    if (verdict == KV_CHANNEL_KNOWN) {
        for (uint32_t i = 0; i < message->count; i++)
            message->items[i].status = statuses[i];
        sim_refuse(world, message, KV_OK);
    } else if (verdict == KV_CHANNEL_UNKNOWN || verdict == KV_CHANNEL_STALE) {
        sim_refuse(world, message, KV_OUTCOME_UNKNOWN);
    } else {
        sim_refuse(world, message, KV_BUSY);
    }
    free(message);
}

static void update_admit(sim_world *world, sim_target *target, sim_message *message)
{
    if (sim_leased(world, target->node) &&
        kv_replica_admits(target->replica, KV_UPDATE_CLIENT, message->chain_version) == KV_OK) {
        update_hear(world, target, message);
        return;
    }
    sim_refuse(world, message, KV_WRONG_TARGET);
    free(message);
}

/* The message is the hearer's. An answer names the target of its question. */
void sim_node_hear(sim_world *world, sim_node *node, sim_message *message)
{
    bool answer = message->kind == SIM_FORWARDED || message->kind == SIM_LISTED;
    sim_target *target = NULL;

    for (uint32_t i = 0; i < world->options.targets_per_node; i++)
        if (answer ? node->targets[i].open && node->targets[i].successor == message->target
                   : node->targets[i].open && node->targets[i].number == message->target)
            target = &node->targets[i];
    if (!target) {
        free(message);
        return;
    }
    switch (message->kind) {
    case SIM_UPDATE:
        update_admit(world, target, message);
        break;
    case SIM_READ:
        sim_read_hear(world, target, message);
        break;
    case SIM_FORWARD:
        sim_forward_hear(world, target, message);
        break;
    case SIM_FORWARDED:
        sim_forwarded_hear(world, target, message);
        free(message);
        break;
    default:
        sim_list_hear(world, target, message);
        free(message);
    }
    sim_turn(world, target);
}

void sim_node_event(sim_world *world, sim_node *node, const sim_event *event)
{
    sim_target *target = event->target ? sim_target_of(world, event->target) : NULL;

    if (event->kind == EVENT_NOTICE) {
        for (uint32_t i = 0; i < world->options.targets_per_node; i++) {
            sim_peer_notice(world, &node->targets[i], (uint32_t)event->a);
            sim_turn(world, &node->targets[i]);
        }
        return;
    }
    if (!target->open)
        return;
    switch (event->kind) {
    case EVENT_DEVICE:
    case EVENT_MAINTAIN:
        sim_storage_event(world, target, event);
        break;
    case EVENT_LOOK_UP:
    case EVENT_CHECK:
        sim_read_event(world, target, event);
        break;
    case EVENT_RESYNC:
        sim_resync_look(world, target);
        break;
    case EVENT_RETRY:
        kv_replica_severed(target->replica);
        break;
    default:
        sim_job_event(world, target, event);
    }
    sim_turn(world, target);
}
