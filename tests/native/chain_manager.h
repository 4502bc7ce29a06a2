/* The manager of the simulated chain: the transition table of kvstore.cluster.transitions,
 * leases, and routing info. */
#ifndef KV_CHAIN_MANAGER_H
#define KV_CHAIN_MANAGER_H

#include "chain_world.h"

#define LEASE (150 * MILLISECOND)
#define LEASE_MARGIN (30 * MILLISECOND)
#define HEARTBEAT (40 * MILLISECOND)
#define MANAGER_TICK (25 * MILLISECOND)

static inline bool report_alive(const chain_world *world, uint32_t target)
{
    const chain_report *report = &world->manager.reports[target];

    return report->local != STATE_OFFLINE && world->now < report->lease_end;
}

static inline bool states_any(const chain_routing *routing, chain_state state)
{
    for (uint32_t i = 0; i < CHAIN_TARGETS_MAX; i++)
        if (routing->states[i] == state)
            return true;
    return false;
}

/* Who comes back comes last; who leaves stays where nobody looks. */
static inline void order_last(chain_world *world, uint32_t target)
{
    uint32_t *order = world->manager.routing.order, count = world->target_count, at = 0;

    while (order[at] != target)
        at++;
    memmove(&order[at], &order[at + 1], (count - at - 1) * sizeof(*order));
    order[count - 1] = target;
}

static inline void serving_judge(chain_world *world, chain_routing *next)
{
    const chain_routing *now = &world->manager.routing;
    bool alive = false;

    for (uint32_t i = 0; i < world->target_count; i++)
        alive = alive || (now->states[i] == STATE_SERVING && report_alive(world, i));
    for (uint32_t i = 0; i < world->target_count; i++)
        if (now->states[i] == STATE_SERVING && !report_alive(world, i))
            next->states[i] = alive ? STATE_OFFLINE : STATE_LASTSRV;
}

/* A target starts alone. What its process was still applying when it was killed is lost, if
 * nobody else that holds it is left; then readers who saw it at the tail, unacknowledged, saw
 * something that went away. That is all that a total outage may do, so these reads
 * prove nothing. */
static inline void chain_excuse(chain_world *world, chain_target *starter)
{
    for (uint32_t key = 0; key < CHAIN_KEYS; key++) {
        if (starter->unapplied_since[key] == 0)
            continue;
        assert(world->excuse_count < CHAIN_EXCUSES_MAX);
        world->excuses[world->excuse_count].key = key;
        world->excuses[world->excuse_count].from = starter->unapplied_since[key];
        world->excuses[world->excuse_count++].to = world->now;
        starter->unapplied_since[key] = 0;
    }
}

/* After a total outage the last in the order starts, alone: what it committed, readers may have
 * seen, and only it is sure to hold. */
static inline void last_judge(chain_world *world, chain_routing *next)
{
    const chain_routing *now = &world->manager.routing;
    uint32_t starter = ACTOR_NOBODY;

    for (uint32_t i = 0; i < world->target_count; i++)
        if (now->states[now->order[i]] == STATE_LASTSRV)
            starter = now->order[i];
    if (starter == ACTOR_NOBODY || !report_alive(world, starter))
        return;
    for (uint32_t i = 0; i < world->target_count; i++)
        if (next->states[i] == STATE_LASTSRV)
            next->states[i] = report_alive(world, i) ? STATE_WAITING : STATE_OFFLINE;
    next->states[starter] = STATE_SERVING;
    chain_excuse(world, &world->targets[starter]);
}

static inline void others_judge(chain_world *world, chain_routing *next)
{
    const chain_routing *now = &world->manager.routing;
    bool serving = states_any(next, STATE_SERVING);

    for (uint32_t i = 0; i < world->target_count; i++) {
        bool alive = report_alive(world, i);
        const chain_report *report = &world->manager.reports[i];

        if (now->states[i] == STATE_SYNCING && alive && serving) {
            if (report->local == STATE_SERVING && report->chain_version == now->chain_version)
                next->states[i] = STATE_SERVING;
        } else if (now->states[i] == STATE_SYNCING || now->states[i] == STATE_WAITING) {
            next->states[i] = alive ? STATE_WAITING : STATE_OFFLINE;
        } else if (now->states[i] == STATE_OFFLINE && alive) {
            next->states[i] = STATE_WAITING;
        }
    }
    for (uint32_t i = 0; serving && i < world->target_count; i++)
        if (next->states[i] == STATE_WAITING && !states_any(next, STATE_SYNCING)) {
            next->states[i] = STATE_SYNCING;
            memset(world->targets[i].unapplied_since, 0,
                   sizeof(world->targets[i].unapplied_since));
            order_last(world, i);
        }
    memcpy(next->order, world->manager.routing.order, sizeof(next->order));
}

static inline void manager_step(chain_world *world)
{
    chain_routing *now = &world->manager.routing, next = *now;

    serving_judge(world, &next);
    last_judge(world, &next);
    others_judge(world, &next);
    if (memcmp(next.states, now->states, sizeof(next.states)) == 0)
        return;
    next.chain_version++;
    *now = next;
    world->tally->changes++;
    chain_say(world, "manager: version %llu", (unsigned long long)next.chain_version);
    for (uint32_t i = 0; i < world->target_count; i++) {
        static const char *const names[] = {"offline", "waiting", "syncing", "lastsrv", "serving"};
        chain_message message = {.kind = MESSAGE_ROUTING, .routing = next};

        chain_say(world, "    %u %s", next.order[i], names[next.states[next.order[i]]]);
        message_drop_in(world, &message, ACTOR_MANAGER, i);
    }
}

/* The lease counts from when the heartbeat was sent, and here from when it came, with a margin. */
static inline void manager_hear(chain_world *world, const chain_message *message)
{
    chain_message answer = {.kind = MESSAGE_ROUTING, .run = message->run, .sent = message->sent};

    if (message->kind == MESSAGE_HEARTBEAT) {
        chain_report *report = &world->manager.reports[message->from];

        if (message->run != world->targets[message->from].run)
            return; /* of a process that is gone: its connection went with it */
        report->local = message->local;
        report->chain_version = message->chain_version;
        report->lease_end = world->now + LEASE + LEASE_MARGIN;
        manager_step(world);
    }
    answer.routing = world->manager.routing;
    message_drop_in(world, &answer, ACTOR_MANAGER, message->from);
}

static inline void manager_open(chain_world *world)
{
    chain_manager *manager = &world->manager;

    manager->routing.chain_version = 1;
    for (uint32_t i = 0; i < world->target_count; i++) {
        manager->routing.order[i] = i;
        manager->routing.states[i] = STATE_SERVING;
        manager->reports[i] = (chain_report){.local = STATE_WAITING,
                                             .lease_end = world->now + LEASE + LEASE_MARGIN};
    }
}

/* What a target is by routing info. */
static inline kv_replica_view chain_view(const chain_world *world, const chain_routing *routing,
                                         uint32_t target)
{
    kv_replica_view view = {.chain_version = routing->chain_version};
    bool passed = false, first = true;

    view.serves = routing->states[target] == STATE_SERVING;
    view.syncs = routing->states[target] == STATE_SYNCING;
    for (uint32_t i = 0; i < world->target_count; i++) {
        uint32_t other = routing->order[i];
        bool serves = routing->states[other] == STATE_SERVING;

        if (other == target) {
            view.head = view.serves && first;
            passed = true;
        } else if (passed && serves && view.serves && !view.has_successor) {
            view.has_successor = true;
            view.successor = other;
        }
        first = first && !serves;
    }
    for (uint32_t i = 0; view.serves && !view.has_successor && i < world->target_count; i++)
        if (routing->states[i] == STATE_SYNCING) {
            view.has_successor = view.successor_syncs = true;
            view.successor = i;
        }
    return view;
}

/* Head or tail; ACTOR_NOBODY: none serves. */
static inline uint32_t chain_end(const chain_world *world, const chain_routing *routing, bool tail)
{
    uint32_t found = ACTOR_NOBODY;

    for (uint32_t i = 0; i < world->target_count; i++)
        if (routing->states[routing->order[i]] == STATE_SERVING &&
            (tail || found == ACTOR_NOBODY))
            found = routing->order[i];
    return found;
}

#endif
