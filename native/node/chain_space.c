/* What is free at the targets of a chain, and what should be: each tells its predecessor the worst
 * of itself and those after it, so that the head knows all of them. */

#include "node/chain.h"

static uint64_t smaller(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

/* Values that wait take no more of a cache's space than leaves enough to evict: so they never
 * wait for each other alone. */
void kv_chain_set_limits(kv_chain *chain)
{
    const kv_target *target = chain->target;

    chain->retained_max = target->memory_size / KV_NODE_RETAINED_SHARE;
    chain->space_margin = KV_NODE_SPACE_MARGIN;
    if (!target->caches)
        return;
    chain->retained_max =
        smaller(chain->retained_max, target->capacity / KV_NODE_RETAINED_SPACE_SHARE);
    chain->space_margin =
        smaller(chain->space_margin, target->capacity / KV_NODE_CACHE_MARGIN_SHARE);
}

/* Locked: look at the target's own space, but not for each update. */
static void space_look(kv_chain *chain)
{
    const kv_target *target = chain->target;
    uint64_t now_ns = kv_clock_ns();
    kv_store_statistics statistics;

    if (chain->space_ns != 0 && now_ns - chain->space_ns < KV_NODE_SPACE_AGE_MS * 1000000ull)
        return;
    kv_store_statistics_read(target->store, &statistics);
    chain->space_ns = now_ns;
    chain->space_free = statistics.space_free;
    chain->objects_short = !target->caches && target->objects_max > 0 &&
                           statistics.objects + KV_NODE_OBJECTS_MARGIN > target->objects_max;
}

/* The least free space from here to the end of the chain; 0: objects are nearly too many. */
static uint64_t space_least(kv_chain *chain)
{
    uint64_t space;

    pthread_mutex_lock(&chain->mutex);
    space_look(chain);
    space = chain->objects_short ? 0 : chain->space_free;
    if (kv_replica_view_of(chain->replica)->has_successor)
        space = smaller(space, chain->successor_free);
    pthread_mutex_unlock(&chain->mutex);
    return space;
}

bool kv_chain_is_short(kv_chain *chain)
{
    return space_least(chain) < chain->space_margin;
}

void kv_chain_shortage(kv_chain *chain, kv_engine_shortage *shortage)
{
    const kv_engine_shortage *further = &chain->successor_lacks;

    kv_engine_look_shortage(chain->target->engine, shortage);
    pthread_mutex_lock(&chain->mutex);
    if (kv_replica_view_of(chain->replica)->has_successor) {
        shortage->size = shortage->size > further->size ? shortage->size : further->size;
        shortage->count = shortage->count > further->count ? shortage->count : further->count;
    }
    pthread_mutex_unlock(&chain->mutex);
}

void kv_chain_tell_space(kv_chain *chain, kv_wire_forwarded *answer)
{
    kv_engine_shortage shortage = {0};

    if (chain->target->caches)
        kv_chain_shortage(chain, &shortage);
    answer->space_free = space_least(chain);
    answer->space_wanted = shortage.size;
    answer->objects_wanted = shortage.count;
}
