/* The simulator as its caller sees it: a world, its time, and the faults that are asked of it. */

#include "simulator.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

/* ---- its life ---- */

static uint64_t seed_now; /* of the world that runs, for an assertion's sake */

static void aborted(int signal_number)
{
    char text[64];
    int size = snprintf(text, sizeof(text), "\nseed %llu aborted\n", (unsigned long long)seed_now);

    (void)!write(STDERR_FILENO, text, (size_t)size);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void node_make(sim_world *world, uint32_t number)
{
    sim_node *node = &world->nodes[number];

    node->id = number;
    node->clock_base = SECOND * (1 + number); /* clocks begin anywhere */
    for (uint32_t i = 0; i < SIM_TARGETS_PER_NODE; i++) {
        sim_target *target = &node->targets[i];

        target->world = world;
        target->node = node;
        target->number = number * SIM_TARGETS_PER_NODE + i + 1;
        kv_list_init(&target->jobs);
        kv_list_init(&target->reads);
        kv_list_init(&target->ready);
        target->unapplied_since = calloc(world->key_count, sizeof(uint64_t));
        assert(target->unapplied_since != NULL);
    }
}

sim_world *sim_open(const sim_options *options)
{
    sim_world *world = calloc(1, sizeof(*world));

    assert(world != NULL);
    assert(options->nodes <= SIM_NODES_MAX && options->clients <= SIM_CLIENTS_MAX);
    assert(options->chains <= SIM_CHAINS_MAX && options->batch_max <= SIM_ITEMS_MAX);
    assert(options->targets_per_node <= SIM_TARGETS_PER_NODE);
    signal(SIGABRT, aborted);
    seed_now = options->seed;
    world->options = *options;
    world->operations_left = options->operations;
    world->key_count = options->chains * options->keys;
    kv_random_init(&world->network, options->seed * 8 + 1);
    kv_random_init(&world->disks, options->seed * 8 + 2);
    kv_random_init(&world->load, options->seed * 8 + 3);
    kv_random_init(&world->faults, options->seed * 8 + 4);
    for (uint32_t i = 0; i < options->nodes; i++)
        node_make(world, i);
    for (uint32_t i = 0; i < options->clients; i++)
        world->clients[i].id = i;
    world->connections = sim_grow(NULL, 0, &world->connection_room, sizeof(sim_connection));
    memset(&world->connections[0], 0, sizeof(sim_connection));
    return world;
}

void sim_close(sim_world *world)
{
    for (uint32_t i = 0; i < world->options.nodes; i++) {
        sim_node *node = &world->nodes[i];

        if (node->up)
            sim_node_die(world, node, false);
        for (uint32_t t = 0; t < SIM_TARGETS_PER_NODE; t++) {
            sim_storage_give_back(world, &node->targets[t]);
            free(node->targets[t].unapplied_since);
        }
    }
    while (world->agenda_count > 0)
        free(sim_pop(world).message);
    free(world->agenda);
    free(world->connections);
    free(world->history);
    free(world->versions);
    free(world->excuses);
    free(world);
}

uint64_t sim_now(const sim_world *world)
{
    return world->now;
}

const char *sim_failure(const sim_world *world)
{
    return world->failure;
}

uint64_t sim_trace(const sim_world *world)
{
    return world->trace;
}

void sim_mark(sim_world *world, const char *what, uint64_t number)
{
    const uint64_t said[2] = {world->now, number};

    world->trace = kv_hash(world->trace, what, strlen(what));
    world->trace = kv_hash(world->trace, said, sizeof(said));
}

void sim_tally_read(const sim_world *world, sim_tally *tally)
{
    *tally = world->tally;
    for (uint32_t i = 0; i < world->options.nodes; i++)
        for (uint32_t t = 0; t < world->options.targets_per_node; t++) {
            kv_sim_statistics statistics = {0};

            if (world->nodes[i].targets[t].sim)
                kv_sim_statistics_read(world->nodes[i].targets[t].sim, &statistics);
            tally->device_writes += statistics.writes;
        }
}

/* ---- events ---- */

static void arrive(sim_world *world, sim_message *message)
{
    sim_client *client;

    if (!sim_arrives(world, &message))
        return;
    if (message->to < SIM_NODES_MAX) {
        sim_node_hear(world, &world->nodes[message->to], message);
        return;
    }
    client = &world->clients[message->to - SIM_NODES_MAX];
    sim_client_hear(world, client, message);
    free(message);
}

static void perform(sim_world *world, sim_event *event)
{
    uint64_t paused_until = *sim_paused_until(world, event->actor);

    if (paused_until > world->now) {
        event->time = paused_until;
        sim_push(world, *event);
        return;
    }
    if (event->kind == EVENT_ARRIVE)
        arrive(world, event->message);
    else if (event->actor >= SIM_NODES_MAX)
        sim_client_event(world, &world->clients[event->actor - SIM_NODES_MAX], event);
    else if (event->run == sim_run_of(world, event->actor))
        sim_node_event(world, &world->nodes[event->actor], event);
    if (event->actor < SIM_NODES_MAX && world->nodes[event->actor].dying) {
        sim_node_die(world, &world->nodes[event->actor], world->nodes[event->actor].dying_power);
        sim_tell(world, SIM_DIED, event->actor, 0);
    }
}

static bool effect_take(sim_world *world, sim_effect *effect)
{
    if (world->effect_count == 0)
        return false;
    *effect = world->effects[world->effect_first];
    world->effect_first = (world->effect_first + 1) % SIM_EFFECTS_MAX;
    world->effect_count--;
    return true;
}

uint64_t sim_run(sim_world *world, uint64_t until_ns, sim_effect *effect)
{
    effect->kind = SIM_NOTHING;
    while (!effect_take(world, effect)) {
        sim_event event;
        uint64_t said[3];

        if (world->agenda_count == 0 || world->agenda[0].time > until_ns) {
            world->now = until_ns > world->now ? until_ns : world->now;
            break;
        }
        event = sim_pop(world);
        assert(event.time >= world->now);
        world->now = event.time;
        said[0] = event.time;
        said[1] = event.kind | (uint64_t)event.actor << 8 | (uint64_t)event.target << 16;
        said[2] = event.a;
        world->trace = kv_hash(world->trace, said, sizeof(said));
        world->tally.events++;
        perform(world, &event);
    }
    return world->now;
}

/* ---- faults ---- */

void sim_node_kill(sim_world *world, uint32_t node, uint32_t power)
{
    if (world->nodes[node].up)
        sim_node_die(world, &world->nodes[node], power != 0);
}

void sim_node_kill_at(sim_world *world, uint32_t number, uint32_t power, uint32_t device_events)
{
    sim_node *node = &world->nodes[number];

    if (!node->up)
        return;
    node->dying_power = power;
    for (uint32_t i = 0; i < world->options.targets_per_node; i++)
        if (node->targets[i].open)
            kv_sim_cut_at_event(node->targets[i].sim,
                                kv_sim_events(node->targets[i].sim) + device_events + 1);
}

static void later(uint64_t *until, uint64_t until_ns)
{
    if (until_ns > *until)
        *until = until_ns;
}

void sim_node_pause(sim_world *world, uint32_t node, uint64_t until_ns)
{
    later(&world->nodes[node].paused_until, until_ns);
}

void sim_client_pause(sim_world *world, uint32_t number, uint64_t until_ns)
{
    sim_client *client = &world->clients[number];

    later(&client->paused_until, until_ns);
    client->disturbed = true;
    if (client->connection != 0)
        sim_cut(world, client->connection);
}

static void reset(sim_world *world, uint32_t from, uint32_t to)
{
    for (uint32_t i = 1; i <= world->connection_count; i++) {
        sim_connection *connection = &world->connections[i];
        bool there = connection->from == from && connection->to == to;
        bool back = connection->from == to && connection->to == from;

        if (connection->open && (there || back)) {
            sim_cut(world, i);
            connection->late_count = 0;
        }
    }
}

void sim_link_block(sim_world *world, uint32_t from, uint32_t to, uint64_t until_ns,
                    uint32_t resets)
{
    for (uint32_t a = 0; a < world->options.nodes; a++)
        for (uint32_t b = 0; b < world->options.nodes; b++) {
            if (a == b || (from != UINT32_MAX && a != from) || (to != UINT32_MAX && b != to))
                continue;
            later(&world->blocked_until[a][b], until_ns);
            if (resets)
                reset(world, a, b);
        }
}

void sim_clients_block(sim_world *world, uint32_t node, uint64_t until_ns)
{
    later(&world->nodes[node].clients_blocked_until, until_ns);
}

void sim_link_slow(sim_world *world, uint32_t node, uint64_t until_ns, uint32_t delay_us)
{
    later(&world->nodes[node].slow_until, until_ns);
    world->nodes[node].slow_us = delay_us;
}

void sim_connection_cut(sim_world *world)
{
    uint32_t span = world->connection_count < 24 ? world->connection_count : 24;

    if (span > 0)
        sim_cut(world, world->connection_count - (uint32_t)sim_draw(&world->faults, span));
}

void sim_peer_cut(sim_world *world, uint32_t node)
{
    uint32_t first = (uint32_t)sim_draw(&world->faults, SIM_TARGETS_PER_NODE * SIM_LOOPS);

    for (uint32_t i = 0; i < SIM_TARGETS_PER_NODE * SIM_LOOPS; i++) {
        uint32_t at = (first + i) % (SIM_TARGETS_PER_NODE * SIM_LOOPS);
        uint32_t peer = world->nodes[node].targets[at / SIM_LOOPS].peers[at % SIM_LOOPS];

        if (world->nodes[node].up && peer != 0) {
            sim_cut(world, peer);
            return;
        }
    }
}

void sim_device_slow(sim_world *world, uint32_t target, uint64_t until_ns, uint32_t delay_us)
{
    later(&sim_target_of(world, target)->device_slow_until, until_ns);
    sim_target_of(world, target)->device_delay_us = delay_us;
}

void sim_device_stick(sim_world *world, uint32_t target, uint64_t until_ns)
{
    later(&sim_target_of(world, target)->device_stuck_until, until_ns);
}

void sim_device_fail(sim_world *world, uint32_t target, uint32_t kind, uint32_t file, int error)
{
    kv_sim *sim = sim_target_of(world, target)->sim;

    if (sim)
        kv_sim_fail(sim, (kv_io_kind)kind, (kv_file)file, error, 1);
}

void sim_device_rot(sim_world *world, uint32_t number)
{
    sim_target *target = sim_target_of(world, number);
    uint64_t size = 0;
    const uint8_t *bytes;

    if (!target->sim)
        return;
    bytes = kv_sim_bytes(target->sim, KV_FILE_SLABS, &size);
    for (uint32_t tries = 0; size > 0 && tries < 64; tries++) {
        uint64_t at = sim_draw(&world->faults, size);

        if (bytes[at] == 0)
            continue; /* most of it was never written */
        kv_sim_flip(target->sim, KV_FILE_SLABS, at, (uint8_t)(1u << sim_draw(&world->faults, 8)));
        return;
    }
}

void sim_device_space(sim_world *world, uint32_t target, uint64_t bytes)
{
    if (sim_target_of(world, target)->sim)
        kv_sim_set_space(sim_target_of(world, target)->sim, bytes);
}

void sim_disturb(sim_world *world, uint32_t chains, uint64_t until_ns)
{
    for (uint32_t i = 0; i < world->options.chains; i++)
        if (chains >> i & 1)
            later(&world->disturbed_until[i], until_ns);
}

/* What was held back comes when it would have. */
void sim_heal(sim_world *world)
{
    sim_say(world, "faults are over");
    world->healing = true;
    memset(world->blocked_until, 0, sizeof(world->blocked_until));
    for (uint32_t i = 0; i < world->options.nodes; i++) {
        sim_node *node = &world->nodes[i];

        node->slow_until = node->clients_blocked_until = 0;
        for (uint32_t t = 0; t < SIM_TARGETS_PER_NODE; t++)
            node->targets[t].device_slow_until = node->targets[t].device_stuck_until = 0;
    }
}

/* ---- rest ---- */

static bool node_rests(const sim_world *world, const sim_node *node)
{
    for (uint32_t t = 0; t < world->options.targets_per_node; t++) {
        const sim_target *target = &node->targets[t];

        if (!target->open || target->offline || !kv_list_empty(&target->jobs) ||
            !kv_list_empty(&target->reads))
            return false;
    }
    return true;
}

int sim_is_quiet(const sim_world *world)
{
    if (world->operations_left > 0)
        return false;
    for (uint32_t i = 0; i < world->options.clients; i++)
        if (world->clients[i].busy)
            return false;
    for (uint32_t i = 0; i < world->options.nodes; i++)
        if (!world->nodes[i].up || !node_rests(world, &world->nodes[i]))
            return false;
    return true;
}

void sim_describe(const sim_world *world, char *text, uint32_t size)
{
    uint32_t at = 0;

    text[0] = 0;
    for (uint32_t i = 0; i < world->options.clients && at + 80 < size; i++)
        if (world->clients[i].busy)
            at += (uint32_t)snprintf(text + at, size - at, "client %u waits on chain %u; ", i,
                                     world->clients[i].chain + 1);
    for (uint32_t i = 0; i < world->options.nodes && at + 80 < size; i++)
        for (uint32_t t = 0; t < world->options.targets_per_node && at + 80 < size; t++) {
            const sim_target *target = &world->nodes[i].targets[t];

            if (!world->nodes[i].up || !target->open || target->offline ||
                !kv_list_empty(&target->jobs))
                at += (uint32_t)snprintf(
                    text + at, size - at, "target %u is %s; ", target->number,
                    !world->nodes[i].up ? "down"
                    : !target->open     ? "not open"
                    : target->offline   ? "offline"
                                        : "at work");
        }
}
