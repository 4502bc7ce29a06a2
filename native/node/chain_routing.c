/* What the owner of a node says of its chains, and asks of them. */

#include "node/chain.h"

#include "client/addresses.h"
#include "embedded/owner.h"
#include "node/mover.h"
#include "node/resync.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A target that serves may be a head, or have a successor. */
static bool flags_agree(const kv_chain_place *place)
{
    bool serves = place->flags & KV_CHAIN_SERVES;
    bool syncs = place->flags & KV_CHAIN_SYNCS;
    bool leads = place->flags & KV_CHAIN_HEAD || place->successor_node != KV_NO_SUCCESSOR;

    return place->flags == 0 || (serves != syncs && (serves || !leads));
}

/* -EINVAL with `message`. */
static int place_check(kv_node *node, const kv_chain_place *place, uint32_t address_count,
                       char *message)
{
    const uint32_t flags = KV_CHAIN_SERVES | KV_CHAIN_SYNCS | KV_CHAIN_HEAD | KV_CHAIN_TAIL;
    const char *wrong = NULL;

    if (!kv_node_target(node, place->target))
        wrong = "is not on this node";
    else if (place->chain_version == 0 || place->chain_version > KV_CHAIN_VERSION_LIMIT)
        wrong = "has a chain version beyond the limit";
    else if (place->flags & ~flags || !flags_agree(place))
        wrong = "has flags that do not go together";
    else if (place->successor_node != KV_NO_SUCCESSOR && place->successor_node >= address_count)
        wrong = "has a successor on a node without an address";
    if (wrong)
        snprintf(message, KV_MESSAGE_SIZE, "target %u %s", place->target, wrong);
    return wrong ? -EINVAL : 0;
}

/* A process that starts with objects does not know what became of the updates before it. */
static void records_forget(kv_node *node)
{
    uint64_t objects = 0;

    for (uint32_t i = 0; i < node->target_count; i++) {
        kv_store_statistics statistics;

        kv_store_statistics_read(node->targets[i].store, &statistics);
        objects += statistics.objects;
    }
    if (objects == 0)
        return;
    pthread_mutex_lock(&node->channels_mutex);
    kv_channels_forget(node->channels);
    pthread_mutex_unlock(&node->channels_mutex);
}

/* The chains are there from now on, each with nothing said of it. -ENOMEM. */
static int chains_open(kv_node *node)
{
    int error = 0;

    if (!node->addresses)
        records_forget(node);

    if (!node->addresses)
        error = kv_addresses_open(&node->addresses);
    for (uint32_t i = 0; i < node->target_count && error == 0; i++) {
        kv_chain *chain = NULL;

        if (atomic_load_explicit(&node->targets[i].chain, memory_order_relaxed))
            continue;
        error = kv_chain_open(node, &node->targets[i], &chain);
        /* Release: with the loads of those who serve requests. */
        atomic_store_explicit(&node->targets[i].chain, chain, memory_order_release);
    }
    atomic_store_explicit(&node->chained, true, memory_order_relaxed);
    return error;
}

static const kv_chain_place *place_find(const kv_chain_place *places, uint32_t count,
                                        uint32_t target)
{
    for (uint32_t i = 0; i < count; i++)
        if (places[i].target == target)
            return &places[i];
    return NULL;
}

static void configure_all(kv_node *node, const kv_chain_place *places, uint32_t place_count,
                          const uint32_t *endpoints)
{
    for (uint32_t i = 0; i < node->target_count; i++) {
        const kv_target *target = &node->targets[i];
        kv_chain *chain = atomic_load_explicit(&target->chain, memory_order_relaxed);
        const kv_chain_place *named = place_find(places, place_count, target->number);
        kv_chain_place place = {.target = target->number, .successor_node = KV_NO_SUCCESSOR};
        uint32_t endpoint = KV_CHAIN_NO_ENDPOINT;

        if (named)
            place = *named;
        if (place.successor_node != KV_NO_SUCCESSOR)
            endpoint = endpoints[(uint32_t)(named - places)];
        kv_chain_configure(chain, &place, endpoint);
    }
}

/* Places are of distinct targets, so there are no more than targets. */
static int set_locked(kv_node *node, const kv_chain_place *places, uint32_t place_count,
                      const char *const *addresses, char *message)
{
    uint32_t endpoints[KV_NODE_TARGETS_MAX];
    int error = chains_open(node);

    for (uint32_t i = 0; i < place_count && error == 0; i++) {
        endpoints[i] = KV_CHAIN_NO_ENDPOINT;
        if (places[i].successor_node != KV_NO_SUCCESSOR)
            error = kv_addresses_add(node->addresses, addresses[places[i].successor_node],
                                     &endpoints[i]);
    }
    if (error < 0)
        snprintf(message, KV_MESSAGE_SIZE, "chains cannot be set: %s", strerror(-error));
    else
        configure_all(node, places, place_count, endpoints);
    return error;
}

int kv_node_set_chains(kv_node *node, uint64_t routing_version, const kv_chain_place *places,
                       uint32_t place_count, const char *const *addresses, uint32_t address_count,
                       char *message)
{
    int error = 0;

    if (place_count > node->target_count) {
        snprintf(message, KV_MESSAGE_SIZE, "%u places for %u targets", place_count,
                 node->target_count);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < place_count && error == 0; i++)
        error = place_check(node, &places[i], address_count, message);
    if (error < 0)
        return error;
    pthread_mutex_lock(&node->chains_mutex);
    if (routing_version >= node->routing_version) {
        error = set_locked(node, places, place_count, addresses, message);
        if (error == 0)
            node->routing_version = routing_version;
    }
    pthread_mutex_unlock(&node->chains_mutex);
    return error;
}

int kv_node_set_lease(kv_node *node, uint64_t end_ns)
{
    uint64_t before = atomic_load_explicit(&node->lease_end_ns, memory_order_relaxed);

    while ((end_ns == 0 || end_ns > before) &&
           !atomic_compare_exchange_weak_explicit(&node->lease_end_ns, &before, end_ns,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
    return 0;
}

int kv_node_set_resync_rate(kv_node *node, uint64_t bytes_per_s)
{
    atomic_store_explicit(&node->resync_rate, bytes_per_s, memory_order_relaxed);
    return 0;
}

/* Locked. */
static uint32_t local_state(const kv_chain *chain, uint64_t offline)
{
    const kv_replica_view *view = kv_replica_view_of(chain->replica);

    if (chain->offline || offline != 0)
        return KV_LOCAL_OFFLINE;
    if (view->serves || (view->syncs && chain->uptodate_version == view->chain_version))
        return KV_LOCAL_UPTODATE;
    return KV_LOCAL_ONLINE;
}

static void chain_state(kv_chain *chain, const kv_store_statistics *statistics,
                        kv_chain_state *state)
{
    pthread_mutex_lock(&chain->mutex);
    state->local = local_state(chain, statistics->offline);
    state->error = chain->offline ? chain->error : (int32_t)statistics->offline;
    state->chain_version = chain->place.flags ? chain->place.chain_version : 0;
    state->updates_in_flight = kv_replica_count(chain->replica);
    state->updates_total = chain->updates_total;
    state->settled = kv_replica_is_settled(chain->replica);
    kv_mover_state(chain->mover, state);
    pthread_mutex_unlock(&chain->mutex);
    kv_resync_state(chain->resync, state);
}

static void device_state(kv_target *target, kv_chain_state *state)
{
    uint64_t oldest_ns, silent_ns;

    kv_engine_watch_io(target->engine, kv_clock_ns(), &oldest_ns, &silent_ns);
    state->io_oldest_ms = oldest_ns / 1000000;
    state->io_silent_ms = silent_ns / 1000000;
    state->damaged = kv_engine_damaged_count(target->engine);
}

int kv_node_chain_states(kv_node *node, kv_chain_state *states, int max)
{
    for (uint32_t i = 0; i < node->target_count && (int)i < max; i++) {
        kv_target *target = &node->targets[i];
        kv_chain *chain = atomic_load_explicit(&target->chain, memory_order_acquire);
        kv_store_statistics statistics;

        kv_store_statistics_read(target->store, &statistics);
        states[i] = (kv_chain_state){.target = target->number,
                                     .objects = statistics.objects,
                                     .value_size = statistics.value_size,
                                     .capacity = statistics.capacity,
                                     .space_used = statistics.space_used,
                                     .space_free = statistics.space_free,
                                     .local = statistics.offline ? KV_LOCAL_OFFLINE
                                                                 : KV_LOCAL_ONLINE,
                                     .error = (int32_t)statistics.offline};
        device_state(target, &states[i]);
        if (chain)
            chain_state(chain, &statistics, &states[i]);
    }
    return (int)node->target_count;
}

int64_t kv_node_damaged(kv_node *node, uint32_t number, void *buffer, uint64_t size)
{
    kv_target *target = kv_node_target(node, number);

    return target ? kv_engine_damaged(target->engine, buffer, size) : -ENOENT;
}

int kv_node_repair(kv_node *node, uint32_t number, const void *key, uint32_t key_size,
                   const void *value, uint32_t value_size)
{
    kv_target *target = kv_node_target(node, number);

    if (!target)
        return -ENOENT;
    return kv_store_repair(target->store, key, key_size, value, value_size);
}
