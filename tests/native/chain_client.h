/* Simulated clients: each has one operation at a time, repeats it until it hears what became of
 * it, and writes down what it saw. */
#ifndef KV_CHAIN_CLIENT_H
#define KV_CHAIN_CLIENT_H

#include "chain_manager.h"

#define GIVE_UP (1500 * MILLISECOND)

static inline void client_ask(chain_world *world, const chain_client *client)
{
    chain_message message = {.kind = MESSAGE_ASK_ROUTING};

    message_drop_in(world, &message, ACTOR_CLIENTS + client->id, ACTOR_MANAGER);
}

/* A timer for what is sent next; it is the last one that counts. */
static inline void client_wait(chain_world *world, chain_client *client, uint64_t delay)
{
    client->attempt++;
    chain_plan(world, delay, EVENT_CLIENT, ACTOR_CLIENTS + client->id, client->operation,
               client->attempt);
}

static inline uint32_t client_choose(chain_world *world, const chain_client *client)
{
    uint32_t target;

    if (client->update || client->at_tail)
        return chain_end(world, &client->routing, !client->update);
    for (uint32_t tries = 0; tries < 16; tries++) {
        target = (uint32_t)chain_draw(world, world->target_count);
        if (client->routing.states[target] == STATE_SERVING)
            return target;
    }
    return ACTOR_NOBODY;
}

static inline void client_send(chain_world *world, chain_client *client)
{
    chain_message message = {.kind = client->update ? MESSAGE_UPDATE : MESSAGE_READ,
                             .chain_version = client->routing.chain_version,
                             .operation = client->kind,
                             .if_absent = client->if_absent,
                             .repeated = client->repeated,
                             .client = client->id,
                             .sequence = client->sequence,
                             .count = client->count};
    uint32_t target = client->routing.chain_version ? client_choose(world, client) : ACTOR_NOBODY;

    client_wait(world, client, 20 * MILLISECOND + chain_draw(world, 60 * MILLISECOND));
    if (target == ACTOR_NOBODY) {
        client_ask(world, client);
        return;
    }
    message.tag = client->attempt;
    memcpy(message.items, client->items, sizeof(client->items));
    if (client->connection == 0 || !world->connections[client->connection].open ||
        world->connections[client->connection].to != target)
        client->connection = connection_open(world, ACTOR_CLIENTS + client->id, target);
    message_send(world, client->connection, false, &message);
}

static inline void client_draw(chain_world *world, chain_client *client)
{
    uint64_t dice = chain_draw(world, 20);
    uint32_t key = (uint32_t)chain_draw(world, CHAIN_KEYS);

    /* What is being changed is what to look at. */
    if (chain_one_in(world, 2))
        key = world->hot_key;

    client->update = dice >= 11;
    world->hot_key = client->update ? key : world->hot_key;
    client->kind = dice >= 17 ? KV_OP_DELETE : KV_OP_SET;
    client->if_absent = dice == 15 || dice == 16;
    client->count = client->update ? 1 + (uint32_t)chain_draw(world, CHAIN_ITEMS_MAX) : 1;
    memset(client->items, 0, sizeof(client->items));
    for (uint32_t i = 0; i < client->count; i++) {
        client->items[i].key = (key + i) % CHAIN_KEYS;
        client->items[i].value = ++world->writes;
    }
}

static inline void client_begin(chain_world *world, chain_client *client)
{
    if (world->operations_left == 0)
        return;
    world->operations_left--;
    world->tally->operations++;
    client->operation++;
    client->busy = true;
    client->repeated = client->at_tail = false;
    client_draw(world, client);
    if (client->update)
        client->sequence++;
    client->start = world->now;
    client->give_up = world->now + GIVE_UP;
    chain_say(world, "client %u: %s %llu of key %u, %u in all: %u", client->id,
              !client->update                  ? "reads"
              : client->kind == KV_OP_DELETE ? "deletes"
              : client->if_absent            ? "sets if absent"
                                             : "sets",
              (unsigned long long)client->sequence, client->items[0].key, client->count,
              client->items[0].value);
    client_send(world, client);
}

/* Written down item by item. What was refused for want of space did not happen. */
static inline void client_end(chain_world *world, chain_client *client, kv_status whole,
                              const chain_message *answer)
{
    for (uint32_t i = 0; i < client->count; i++) {
        kv_status status = whole == KV_OK ? answer->items[i].status : whole;
        bool unknown = status == KV_OUTCOME_UNKNOWN;
        chain_entry entry = {.key = client->items[i].key,
                             .act = !client->update                ? ACT_READ
                                    : client->kind == KV_OP_DELETE ? ACT_DELETE
                                    : client->if_absent            ? ACT_SET_IF_ABSENT
                                                                   : ACT_SET,
                             .value = client->update ? client->items[i].value : 0,
                             .status = status,
                             .start = client->start,
                             .end = unknown ? FOREVER : world->now};

        if (!client->update && !unknown)
            entry.value = answer->items[i].value;
        chain_say(world, "client %u: key %u: status %d, value %u", client->id, entry.key,
                  (int)status, entry.value);
        world->tally->unknown += unknown;
        if (status == KV_NO_SPACE || (!client->update && unknown))
            continue;
        if (status != KV_OK && !unknown && status != KV_EXISTS && status != KV_NOT_FOUND)
            chain_fail(world, "client %u got status %d", client->id, (int)status);
        chain_record(world, entry);
    }
    client->busy = false;
    client_wait(world, client, chain_one_in(world, 3) ? chain_draw(world, 120 * MILLISECOND)
                                                      : chain_draw(world, 4 * MILLISECOND));
}

static inline void client_hear(chain_world *world, chain_client *client,
                               const chain_message *message)
{
    if (message->kind == MESSAGE_ROUTING) {
        if (message->routing.chain_version > client->routing.chain_version)
            client->routing = message->routing;
        return;
    }
    if (!client->busy || message->tag != client->attempt)
        return;
    switch (message->status) {
    case KV_OK:
    case KV_OUTCOME_UNKNOWN:
        client_end(world, client, message->status, message);
        break;
    case KV_DIRTY:
        client_wait(world, client, client->at_tail ? MILLISECOND : 0);
        client->at_tail = true;
        break;
    case KV_BUSY:
        client_wait(world, client, 2 * MILLISECOND);
        break;
    default:
        client_ask(world, client);
        client_wait(world, client, MILLISECOND + chain_draw(world, 4 * MILLISECOND));
    }
}

/* The timer of what was sent last: nothing was heard of it, or it is time to send. */
static inline void client_event(chain_world *world, chain_client *client, const chain_event *event)
{
    if (event->a != client->operation || event->b != client->attempt)
        return;
    if (!client->busy) {
        client_begin(world, client);
        return;
    }
    if (world->faults && world->now >= client->give_up) {
        client_end(world, client, KV_OUTCOME_UNKNOWN, NULL);
        return;
    }
    client_ask(world, client);
    client->repeated = true;
    client_send(world, client);
}

#endif
