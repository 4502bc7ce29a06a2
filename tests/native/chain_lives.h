/* One life of a simulated chain, from a seed: clients at work while targets are killed, stopped
 * and cut off; then quiet. Shared by the tests and by the long simulation.
 *
 * What is checked: the invariants of every replica after every event; that a version names one
 * value; that what clients saw of each key has an order, which also says that nothing
 * acknowledged was lost and nothing happened twice; that all comes to rest once faults stop; and
 * that all targets hold the same then. */
#ifndef KV_CHAIN_LIVES_H
#define KV_CHAIN_LIVES_H

#include "chain_checker.h"
#include "chain_client.h"
#include "chain_target.h"

#define CHAIN_OPERATIONS 240u
#define CHAIN_REST_WITHIN (40ull * SECOND)

static inline void fault_kill(chain_world *world, chain_target *target)
{
    uint64_t down = brief(world, chain_one_in(world, 2) ? 20 : 500);

    if (!target->up)
        return;
    chain_say(world, "target %u is killed", target->id);
    world->tally->kills++;
    target_kill(world, target);
    agenda_push(world, (chain_event){.time = world->now + down, .kind = EVENT_START,
                                     .actor = target->id});
}

/* One of the connections that were opened last, which are those in use. */
static inline void fault_cut(chain_world *world)
{
    uint32_t span = world->connection_count < 24 ? world->connection_count : 24;

    if (span == 0)
        return;
    world->tally->cuts++;
    connection_cut(world, world->connection_count - (uint32_t)chain_draw(world, span));
}

static inline void fault_cut_peer(chain_world *world, const chain_target *target)
{
    uint32_t peer = target->peers[chain_draw(world, CHAIN_LOOPS)];

    if (!target->up || peer == 0)
        return;
    chain_say(world, "target %u loses a connection to %u", target->id, target->successor);
    world->tally->cuts++;
    connection_cut(world, peer);
}

/* It loses its connection and hears nothing for a while: what became of its operation, it learns
 * from others. */
static inline void fault_sleep(chain_world *world)
{
    chain_client *client = &world->clients[chain_draw(world, CHAIN_CLIENTS)];

    if (client->connection != 0)
        connection_cut(world, client->connection);
    client->paused_until = world->now + brief(world, 900);
}

/* From the manager and the other targets; clients still reach it. What was on its way is lost. */
static inline void fault_isolate(chain_world *world, chain_target *target)
{
    target->isolated_until = target->unheard_until = world->now + brief(world, 300);
    for (uint32_t i = 1; i <= world->connection_count; i++) {
        chain_connection *connection = &world->connections[i];

        if (connection->from >= CHAIN_TARGETS_MAX || connection->to >= CHAIN_TARGETS_MAX ||
            (connection->from != target->id && connection->to != target->id))
            continue;
        connection_cut(world, i);
        connection->late_count = 0;
    }
}

static inline void fault_event(chain_world *world)
{
    chain_target *target = &world->targets[chain_draw(world, world->target_count)];
    uint64_t until = world->now + brief(world, chain_one_in(world, 3) ? 500 : 60);

    if (!world->faults)
        return;
    switch (chain_draw(world, 20)) {
    case 0:
    case 1:
    case 2:
        fault_kill(world, target);
        break;
    case 3:
        target->unheard_until = until;
        break;
    case 4:
        target->paused_until = until;
        world->tally->stops++;
        break;
    case 5:
    case 6:
        target->slow_until = until;
        break;
    case 7:
        target->tight = !target->tight;
        break;
    case 8:
        world->manager.paused_until = until;
        break;
    case 9:
        for (uint32_t i = 0; i < world->target_count && chain_one_in(world, 4); i++)
            fault_kill(world, &world->targets[i]);
        break;
    case 10:
        fault_cut(world);
        break;
    case 11:
        fault_sleep(world);
        break;
    case 12: /* its device is still at work when it comes back */
        target->slow_until = world->now + SECOND;
        target->unheard_until = world->now + 200 * MILLISECOND;
        break;
    case 13:
        fault_isolate(world, target);
        break;
    case 14:
        target->slow_until = world->now + brief(world, 500);
        break;
    case 15:
        for (uint32_t i = 0; i < world->target_count; i++)
            world->targets[i].tight = chain_one_in(world, 2);
        break;
    default:
        fault_cut_peer(world, target);
    }
    chain_plan(world, brief(world, 100), EVENT_FAULT, ACTOR_NOBODY, 0, 0);
}

static inline void heal_event(chain_world *world)
{
    chain_say(world, "faults are over");
    world->faults = false;
    for (uint32_t i = 0; i < world->target_count; i++) {
        world->targets[i].tight = false;
        world->targets[i].slow_until = world->targets[i].unheard_until = 0;
        world->targets[i].isolated_until = 0;
    }
}

static inline uint64_t *paused_until(chain_world *world, uint32_t actor)
{
    static uint64_t never;

    if (actor < CHAIN_TARGETS_MAX)
        return &world->targets[actor].paused_until;
    if (actor >= ACTOR_CLIENTS && actor < ACTOR_NOBODY)
        return &world->clients[actor - ACTOR_CLIENTS].paused_until;
    return actor == ACTOR_MANAGER ? &world->manager.paused_until : &never;
}

static inline void target_event(chain_world *world, chain_target *target, const chain_event *event)
{
    switch (event->kind) {
    case EVENT_START:
        chain_say(world, "target %u starts", target->id);
        target_open(world, target);
        break;
    case EVENT_NOTICE:
        target_notice(world, target, (uint32_t)event->a);
        break;
    case EVENT_BEFORE:
    case EVENT_AFTER:
        read_event(world, target, event);
        break;
    case EVENT_LOOKUP:
        lookup_event(world, target, event);
        break;
    case EVENT_HEARTBEAT:
        target_heartbeat(world, target);
        break;
    case EVENT_RESYNC:
        resync_event(world, target);
        break;
    default:
        job_event(world, target, event);
    }
}

static inline void message_event(chain_world *world, chain_message *message)
{
    if (message_arrives(world, message)) {
        if (message->to < CHAIN_TARGETS_MAX)
            target_hear(world, &world->targets[message->to], message);
        else if (message->to == ACTOR_MANAGER)
            manager_hear(world, message);
        else
            client_hear(world, &world->clients[message->to - ACTOR_CLIENTS], message);
    }
    free(message);
}

static inline void chain_event_perform(chain_world *world, chain_event *event)
{
    if (*paused_until(world, event->actor) > world->now) {
        event->time = *paused_until(world, event->actor);
        agenda_push(world, *event);
        return;
    }
    if (event->kind == EVENT_ARRIVE) {
        message_event(world, event->message);
    } else if (event->actor < CHAIN_TARGETS_MAX) {
        if (event->run == 0 || event->run == chain_run(world, event->actor))
            target_event(world, &world->targets[event->actor], event);
    } else if (event->kind == EVENT_TICK) {
        manager_step(world);
        chain_plan(world, MANAGER_TICK, EVENT_TICK, ACTOR_MANAGER, 0, 0);
    } else if (event->kind == EVENT_CLIENT) {
        client_event(world, &world->clients[event->actor - ACTOR_CLIENTS], event);
    } else if (event->kind == EVENT_FAULT) {
        fault_event(world);
    } else if (event->kind == EVENT_HEAL) {
        heal_event(world);
    }
}

/* Nothing is under way any more, and all serve. */
static inline bool chain_rests(const chain_world *world)
{
    if (world->faults || world->operations_left > 0)
        return false;
    for (uint32_t i = 0; i < CHAIN_CLIENTS; i++)
        if (world->clients[i].busy)
            return false;
    for (uint32_t i = 0; i < world->target_count; i++) {
        const chain_target *target = &world->targets[i];

        if (!target->up || world->manager.routing.states[i] != STATE_SERVING ||
            target->routing.chain_version != world->manager.routing.chain_version ||
            !kv_list_empty(&target->jobs) || kv_replica_count(target->replica) > 0)
            return false;
    }
    return true;
}

static inline void chain_open(chain_world *world, uint64_t seed, chain_tally *tally)
{
    world->seed = seed;
    world->tally = tally;
    world->faults = true;
    world->operations_left = CHAIN_OPERATIONS;
    kv_random_init(&world->random, seed);
    world->target_count = 2 + (uint32_t)chain_draw(world, CHAIN_TARGETS_MAX - 1);
    for (uint32_t i = 0; i < world->target_count; i++) {
        world->targets[i].id = i;
        world->targets[i].tight = seed % 3 == 0;
        target_open(world, &world->targets[i]);
    }
    manager_open(world);
    chain_plan(world, MANAGER_TICK, EVENT_TICK, ACTOR_MANAGER, 0, 0);
    for (uint32_t i = 0; i < CHAIN_CLIENTS; i++) {
        world->clients[i].id = i;
        client_wait(world, &world->clients[i], chain_draw(world, 10 * MILLISECOND));
    }
    chain_plan(world, brief(world, 50), EVENT_FAULT, ACTOR_NOBODY, 0, 0);
    chain_plan(world, 500 * MILLISECOND + brief(world, 2500), EVENT_HEAL, ACTOR_NOBODY, 0, 0);
}

/* In the end every target has the same, and that is what a reader would see. */
static inline void chain_agree(chain_world *world)
{
    uint32_t tail = chain_end(world, &world->manager.routing, true);

    for (uint32_t key = 0; key < CHAIN_KEYS; key++) {
        uint32_t value = world->targets[tail].store[key].value;

        for (uint32_t i = 0; i < world->target_count; i++)
            if (world->targets[i].store[key].value != value ||
                world->targets[i].store[key].version != world->targets[tail].store[key].version)
                chain_fail(world, "targets %u and %u differ at key %u: %u and %u", i, tail, key,
                           world->targets[i].store[key].value, value);
        chain_record(world, (chain_entry){.key = key, .act = ACT_READ, .value = value,
                                          .start = world->now, .end = world->now});
    }
}

static inline void chain_close(chain_world *world)
{
    for (uint32_t i = 0; i < world->target_count; i++)
        if (world->targets[i].up)
            target_kill(world, &world->targets[i]);
    while (world->agenda_count > 0)
        free(agenda_pop(world).message);
    free(world->agenda);
    free(world);
}

/* Returns a digest of all that happened: the same seed, the same digest. */
static inline uint64_t chain_simulate(uint64_t seed, bool talks, chain_tally *tally)
{
    chain_world *world = calloc(1, sizeof(*world));
    uint64_t trace;

    assert(world != NULL);
    world->talks = talks;
    chain_open(world, seed, tally);
    while (!chain_rests(world)) {
        chain_event event = agenda_pop(world);
        uint64_t said[4] = {event.time, event.kind, event.actor, event.a};

        assert(event.time >= world->now);
        world->now = event.time;
        world->trace = kv_hash(world->trace, said, sizeof(said));
        tally->events++;
        chain_event_perform(world, &event);
        if (world->now > CHAIN_REST_WITHIN)
            chain_fail(world, "it does not come to rest");
    }
    chain_agree(world);
    chain_check(world);
    trace = world->trace;
    tally->seeds++;
    tally->time_us += world->now;
    chain_close(world);
    return trace;
}

#endif
