/* Simulated clients: each has one operation at a time, repeats it until it hears what became of
 * it, and writes down what it saw. */

#include "simulator.h"

#define TARGET_NONE 0u

/* The answer is newer than what it knows, and comes as soon as there is something newer. */
static void ask(sim_world *world, sim_client *client)
{
    if (!client->asked)
        client->asked = sim_tell(world, SIM_ASK, client->id, 0);
}

void sim_client_learn(sim_world *world, uint32_t number, uint32_t chain, uint64_t chain_version,
                      const uint32_t *serving, uint32_t count)
{
    sim_route *route = &world->clients[number].routes[chain - 1];

    world->clients[number].asked = false;
    if (chain_version <= route->chain_version || count > SIM_NODES_MAX)
        return;
    route->chain_version = chain_version;
    route->count = count;
    memcpy(route->serving, serving, count * sizeof(*serving));
}

/* A timer for what is sent next; it is the last one that counts. */
static void wait(sim_world *world, sim_client *client, uint64_t delay)
{
    client->attempt++;
    sim_plan(world, delay, EVENT_CLIENT, SIM_NODES_MAX + client->id, 0, client->operation,
             client->attempt);
}

/* Reads go anywhere, but not at once again to who did not answer. */
static uint32_t choose(sim_world *world, const sim_client *client)
{
    const sim_route *route = &client->routes[client->chain];
    uint32_t target = TARGET_NONE;

    if (route->count == 0)
        return TARGET_NONE;
    if (client->update)
        return route->serving[0];
    if (client->at_tail)
        return route->serving[route->count - 1];
    for (uint32_t tries = 0; tries < 2; tries++) {
        target = route->serving[sim_draw(&world->load, route->count)];
        if (target != client->slow_target)
            break;
    }
    return target;
}

static sim_message *message_of(const sim_client *client)
{
    sim_message *message = sim_message_make(0);

    message->kind = client->update ? SIM_UPDATE : SIM_READ;
    message->chain_version = client->routes[client->chain].chain_version;
    message->operation = client->kind;
    message->if_absent = client->if_absent;
    message->repeated = client->repeated;
    message->client = client->id;
    message->sequence = client->sequence;
    message->tag = client->attempt;
    for (uint32_t i = 0; i < client->count; i++)
        if (!client->done[i])
            message->items[message->count++] = client->items[i];
    return message;
}

static void transmit(sim_world *world, sim_client *client)
{
    uint32_t target = choose(world, client);
    uint32_t node = (target - 1) / SIM_TARGETS_PER_NODE;
    const sim_connection *connection = &world->connections[client->connection];
    sim_message *message;

    wait(world, client, (20 + sim_draw(&world->load, world->options.patience_ms)) * MILLISECOND);
    if (target == TARGET_NONE) {
        ask(world, client);
        return;
    }
    client->slow_target = target;
    message = message_of(client);
    message->target = target;
    if (client->connection == 0 || !connection->open || connection->to != node)
        client->connection = sim_connect(world, SIM_NODES_MAX + client->id, node);
    sim_send(world, client->connection, false, message);
}

/* ---- what it does ---- */

static void draw(sim_world *world, sim_client *client)
{
    const sim_options *options = &world->options;
    kv_random *random = &world->load;
    uint32_t key;

    client->chain = (uint32_t)sim_draw(random, options->chains);
    key = (uint32_t)sim_draw(random, options->keys);
    if (sim_one_in(random, 2)) /* what is being changed is what to look at */
        key = world->hot_keys[client->chain];
    client->update = sim_draw(random, 100) < options->updates_percent;
    if (client->update)
        world->hot_keys[client->chain] = key;
    client->kind = sim_draw(random, 100) < options->deletes_percent ? KV_OP_DELETE : KV_OP_SET;
    client->if_absent = client->kind == KV_OP_SET && sim_one_in(random, 5);
    client->count = 1 + (uint32_t)sim_draw(random, options->batch_max);
    if (client->count > options->keys)
        client->count = options->keys;
    memset(client->items, 0, sizeof(client->items));
    memset(client->done, 0, sizeof(client->done));
    for (uint32_t i = 0; i < client->count; i++) {
        client->items[i].key = client->chain * options->keys + (key + i) % options->keys;
        if (client->update)
            client->items[i].write = ++world->writes;
    }
}

static void begin(sim_world *world, sim_client *client)
{
    if (world->operations_left == 0)
        return;
    world->operations_left--;
    world->tally.operations++;
    client->operation++;
    client->busy = true;
    client->repeated = client->at_tail = client->disturbed = false;
    client->slow_target = TARGET_NONE;
    draw(world, client);
    if (client->update)
        client->sequence++;
    client->start = world->now;
    client->give_up = world->now + world->options.give_up_ms * MILLISECOND;
    sim_say(world, "client %u: %s %llu of key %u, %u in all, write %llu", client->id,
            !client->update                ? "reads"
            : client->kind == KV_OP_DELETE ? "deletes"
            : client->if_absent            ? "sets if absent"
                                           : "sets",
            (unsigned long long)client->sequence, client->items[0].key, client->count,
            (unsigned long long)client->items[0].write);
    transmit(world, client);
}

/* Written down item by item. What was refused for want of space did not happen. */
static void item_end(sim_world *world, sim_client *client, uint32_t i, kv_status status)
{
    bool unknown = status == KV_OUTCOME_UNKNOWN;
    sim_entry entry = {.key = client->items[i].key,
                       .act = !client->update                ? ACT_READ
                              : client->kind == KV_OP_DELETE ? ACT_DELETE
                              : client->if_absent            ? ACT_SET_IF_ABSENT
                                                             : ACT_SET,
                       .write = client->items[i].write,
                       .status = status,
                       .start = client->start,
                       .end = unknown ? FOREVER : world->now};

    client->done[i] = true;
    world->tally.items++;
    world->tally.unknown += unknown;
    sim_say(world, "client %u: key %u: status %d, write %llu", client->id, entry.key, (int)status,
            (unsigned long long)entry.write);
    if (status == KV_NO_SPACE || (!client->update && unknown))
        return;
    if (status != KV_OK && !unknown && status != KV_EXISTS && status != KV_NOT_FOUND) {
        sim_fail(world, "client %u got status %d of key %u", client->id, (int)status, entry.key);
        return;
    }
    sim_record(world, entry);
}

/* P5: nothing that happens to one chain holds up another. */
static void check_stall(sim_world *world, const sim_client *client)
{
    uint64_t latency = world->now - client->start;

    if (client->disturbed || world->disturbed_until[client->chain] >= client->start)
        return;
    world->tally.undisturbed++;
    if (latency > world->tally.latency_max_ns)
        world->tally.latency_max_ns = latency;
    if (latency > world->options.stall_ms_max * MILLISECOND)
        sim_fail(world, "client %u waited %llu ms on chain %u, which no fault touched (P5)",
                 client->id, (unsigned long long)(latency / MILLISECOND), client->chain + 1);
}

static void end(sim_world *world, sim_client *client)
{
    uint64_t think = world->options.think_us * MICROSECOND;
    uint32_t share = sim_one_in(&world->load, 3) ? 1 : 20;

    check_stall(world, client);
    client->busy = false;
    wait(world, client, sim_draw(&world->load, think / share + 1));
}

static void give_up(sim_world *world, sim_client *client)
{
    for (uint32_t i = 0; i < client->count; i++)
        if (!client->done[i])
            item_end(world, client, i, KV_OUTCOME_UNKNOWN);
    end(world, client);
}

/* ---- what it hears ---- */

/* Items that were asked for, in order. True: all of them are over now. */
static bool items_take(sim_world *world, sim_client *client, const sim_message *answer)
{
    uint32_t at = 0;
    bool over = true;

    for (uint32_t i = 0; i < client->count && at < answer->count; i++) {
        kv_status status;

        if (client->done[i])
            continue;
        status = (kv_status)answer->items[at].status;
        if (!client->update && status != KV_OK && status != KV_NOT_FOUND) {
            client->at_tail = status == KV_DIRTY; /* others have a copy, or know what is true */
            over = false;
        } else {
            if (!client->update)
                client->items[i].write = status == KV_OK ? answer->items[at].write : 0;
            item_end(world, client, i, status);
        }
        at++;
    }
    return over;
}

void sim_client_hear(sim_world *world, sim_client *client, const sim_message *message)
{
    bool at_tail = client->at_tail;

    if (!client->busy || message->tag != client->attempt)
        return;
    switch (message->status) {
    case KV_OK:
        if (items_take(world, client, message))
            end(world, client);
        else
            wait(world, client, at_tail ? MILLISECOND : 0);
        break;
    case KV_OUTCOME_UNKNOWN:
        give_up(world, client);
        break;
    case KV_BUSY:
        wait(world, client, 2 * MILLISECOND);
        break;
    default:
        client->at_tail = false;
        ask(world, client);
        wait(world, client, MILLISECOND + sim_draw(&world->load, 4 * MILLISECOND));
    }
}

/* The timer of what was sent last: nothing was heard of it, or it is time to send. A connection
 * that is lost makes it due. */
void sim_client_event(sim_world *world, sim_client *client, const sim_event *event)
{
    if (event->kind == EVENT_NOTICE) {
        if (client->busy && client->connection == event->a)
            wait(world, client, MILLISECOND);
        return;
    }
    if (event->a != client->operation || event->b != client->attempt)
        return;
    if (!client->busy) {
        begin(world, client);
    } else if (!world->healing && world->now >= client->give_up) {
        give_up(world, client);
    } else {
        ask(world, client);
        client->repeated = true;
        transmit(world, client);
    }
}

void sim_begin(sim_world *world)
{
    world->working = true;
    for (uint32_t i = 0; i < world->options.clients; i++)
        wait(world, &world->clients[i], sim_draw(&world->load, 10 * MILLISECOND));
}
