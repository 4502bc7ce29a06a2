/* The client's routing info: taken over as a whole, and told to the lanes; and what whoever fetches
 * it should hear of.
 *
 * Background lanes hear of newer routing info by mail; a blocking caller looks for it, often once
 * its call had trouble. */

#include "client/client_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int nodes_add(kv_client *client, const char *const *nodes, uint32_t node_count,
                     uint32_t *endpoints, char *message)
{
    for (uint32_t i = 0; i < node_count; i++) {
        int error = kv_addresses_add(client->addresses, nodes[i], &endpoints[i]);

        if (error < 0) {
            snprintf(message, KV_MESSAGE_SIZE,
                     "\"%.300s\" is no host:port, or there are too many nodes", nodes[i]);
            return error;
        }
    }
    return 0;
}

/* Endpoints of nodes, for the caller to free. */
static int endpoints_of(kv_client *client, const char *const *nodes, uint32_t node_count,
                        uint32_t **endpoints, char *message)
{
    int error;

    *endpoints = calloc(node_count ? node_count : 1, sizeof(**endpoints));
    if (!*endpoints)
        return -ENOMEM;
    error = nodes_add(client, nodes, node_count, *endpoints, message);
    if (error < 0)
        free(*endpoints);
    return error;
}

/* Go by this table from now on, and tell who may wait for it. */
static void routing_install(kv_client *client, kv_route_table *routing)
{
    kv_route_table *before;

    pthread_mutex_lock(&client->mutex);
    before = client->routing;
    routing->generation = before ? before->generation + 1 : 1;
    client->routing = routing;
    /* Relaxed: the partner is kv_client_generation. */
    atomic_store_explicit(&client->generation, routing->generation, memory_order_relaxed);
    for (uint32_t i = 0; i < client->lane_count; i++) {
        kv_lane *lane = client->lanes[i];

        if (!lane->background || lane->routing_posted)
            continue;
        lane->routing_posted = true;
        kv_reactor_post(lane->reactor, &lane->routing_mail);
    }
    pthread_mutex_unlock(&client->mutex);
    if (before)
        kv_route_table_release(before);
}

kv_route_table *kv_client_routing(kv_client *client)
{
    kv_route_table *routing;

    pthread_mutex_lock(&client->mutex);
    routing = kv_route_table_hold(client->routing);
    pthread_mutex_unlock(&client->mutex);
    return routing;
}

int kv_client_route(kv_client *client, uint64_t routing_version, const char *const *nodes,
                    uint32_t node_count, const uint32_t *slot_nodes, const uint32_t *slot_targets,
                    uint32_t slot_count, char *message)
{
    kv_route_table *routing;
    uint32_t *endpoints;
    int error = endpoints_of(client, nodes, node_count, &endpoints, message);

    if (error < 0)
        return error;
    error = kv_route_table_open(routing_version, endpoints, node_count, slot_nodes, slot_targets,
                                slot_count, &routing);
    free(endpoints);
    if (error == -EINVAL)
        snprintf(message, KV_MESSAGE_SIZE,
                 "slots are a power of two up to 65536, each of one of the nodes");
    if (error == 0)
        routing_install(client, routing);
    return error;
}

int kv_client_route_chains(kv_client *client, uint64_t routing_version, const char *const *nodes,
                           uint32_t node_count, const kv_chain_member *members,
                           uint32_t member_count, const kv_chain_route *chains,
                           uint32_t chain_count, const uint32_t *slot_chains, uint32_t slot_count,
                           char *message)
{
    kv_route_table *routing;
    uint32_t *endpoints;
    int error = endpoints_of(client, nodes, node_count, &endpoints, message);
    kv_route_chains from = {.members = members,
                            .chains = chains,
                            .slot_chains = slot_chains,
                            .node_count = node_count,
                            .member_count = member_count,
                            .chain_count = chain_count,
                            .slot_count = slot_count};

    if (error < 0)
        return error;
    from.endpoints = endpoints;
    error = kv_route_table_open_chains(routing_version, &from, &routing);
    free(endpoints);
    if (error == -EINVAL)
        snprintf(message, KV_MESSAGE_SIZE,
                 "slots are a power of two up to 65536, each of one of the chains; a chain has a "
                 "version of 1 to %d and at most %d members, each on one of the nodes",
                 KV_CHAIN_VERSION_LIMIT, KV_CHAIN_TARGETS_LIMIT);
    if (error == 0)
        routing_install(client, routing);
    return error;
}

int64_t kv_client_trouble(kv_client *client, char *unreachable, uint32_t size, int *descriptor)
{
    if (descriptor)
        *descriptor = client->trouble.descriptor;
    if (size == 0)
        return kv_trouble_count(&client->trouble);
    return kv_trouble_take(&client->trouble, client->addresses, unreachable, size);
}
