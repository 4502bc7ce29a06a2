/* Where a chain's successor is, for the connections of each loop, and whether it can be reached.
 *
 * A loop has two connections: evictions go by one of their own, so that nothing that waits for the
 * space which they make is before them. At the other end they take memory of another pool. */

#include "node/chain.h"

#include "client/addresses.h"

kv_peer_aim kv_chain_aim(kv_chain *chain)
{
    kv_peer_aim aim;
    uint32_t pool;

    pthread_mutex_lock(&chain->mutex);
    pool = chain->place.position + 1;
    aim = (kv_peer_aim){.endpoint = chain->endpoint,
                        .target = chain->place.successor,
                        .pool = pool < KV_NODE_PLACES ? pool : KV_NODE_PLACES,
                        .closes = chain->stopped};
    pthread_mutex_unlock(&chain->mutex);
    return aim;
}

kv_peer **kv_chain_peer_place(kv_chain *chain, const kv_loop *loop, bool evicts)
{
    return &chain->peers[(loop - chain->node->loops) + (evicts ? chain->node->loop_count : 0)];
}

static void peer_aim(kv_chain *chain, kv_peer *peer)
{
    kv_peer_aim aim = kv_chain_aim(chain);

    aim.pool += peer->evicts ? KV_NODE_PLACES : 0;
    kv_peer_set_aim(peer, &aim);
}

void kv_chain_aim_peers(kv_chain *chain, kv_loop *loop)
{
    for (int evicts = 0; evicts < 2; evicts++) {
        kv_peer *peer = *kv_chain_peer_place(chain, loop, evicts);

        if (peer)
            peer_aim(chain, peer);
    }
}

kv_peer *kv_chain_peer(kv_chain *chain, kv_loop *loop, bool evicts)
{
    kv_peer **peer = kv_chain_peer_place(chain, loop, evicts);

    if (!*peer)
        *peer = kv_peer_open(chain, loop, evicts, peer, NULL);
    if (*peer)
        peer_aim(chain, *peer);
    return *peer;
}

void kv_chain_tell_lost(kv_chain *chain, int error, const char *reason)
{
    bool told;
    uint32_t endpoint;
    uint32_t target;

    pthread_mutex_lock(&chain->mutex);
    endpoint = chain->endpoint;
    target = chain->place.successor;
    told = chain->lost_told || endpoint == KV_CHAIN_NO_ENDPOINT;
    chain->lost_told = true;
    pthread_mutex_unlock(&chain->mutex);
    if (!told)
        kv_events_report(&chain->node->events, KV_EVENT_PEER_LOST, error, target,
                         "%s: target %u: %.120s",
                         kv_addresses_name(chain->node->addresses, endpoint), target, reason);
}

void kv_chain_tell_found(kv_chain *chain)
{
    pthread_mutex_lock(&chain->mutex);
    chain->lost_told = false;
    pthread_mutex_unlock(&chain->mutex);
}
