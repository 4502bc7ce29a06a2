/* The turn of an update of a chain: what of it is refused for what is there already, when it
 * expires, and whether the successor is asked before it is applied. See chain.h.
 *
 * What is looked up stays so until the update has ended: its keys are its own. */

#include "node/chain.h"

#include "node/evictor.h"
#include "node/resync.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#define EQUAL_TABLE_SIZE (2 * KV_MESSAGE_COUNT_MAX)

static uint64_t unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* The same at each copy, whenever it gets there. */
static uint64_t expiry_of(const kv_chain_update *own)
{
    uint64_t ttl_ms = own->ttl_ms ? own->ttl_ms : own->chain->target->ttl_ms;
    uint64_t now_ms = unix_ms();

    if (ttl_ms == 0)
        return 0;
    return now_ms + ttl_ms < now_ms ? UINT64_MAX : now_ms + ttl_ms;
}

static bool keys_equal(const kv_update_key *one, const kv_update_key *other)
{
    return one->hash == other->hash && one->key_size == other->key_size &&
           memcmp(one->key, other->key, one->key_size) == 0;
}

/* Keys met so far, by their hash. */
typedef struct met_keys {
    uint16_t places[EQUAL_TABLE_SIZE]; /* index + 1 */
} met_keys;

/* True: an equal key was met before. */
static bool meet(met_keys *met, const kv_update_key *keys, uint32_t i)
{
    uint32_t place = (uint32_t)keys[i].hash % EQUAL_TABLE_SIZE;

    while (met->places[place] != 0) {
        if (keys_equal(&keys[met->places[place] - 1], &keys[i]))
            return true;
        place = (place + 1) % EQUAL_TABLE_SIZE;
    }
    met->places[place] = (uint16_t)(i + 1);
    return false;
}

/* What is there decides: it is the update's turn, so that nothing changes it meanwhile. */
static kv_status judge(const kv_chain_update *own, uint32_t i, met_keys *met)
{
    const kv_update_key *key = &own->update.keys[i];
    bool again = meet(met, own->update.keys, i);
    kv_item_stat stat;
    uint32_t size;
    bool there = kv_engine_peek(own->chain->target->engine, key->key, key->key_size, &stat,
                                &size) == 0;

    switch (own->operation) {
    case KV_OP_SET:
        return there || again ? KV_EXISTS : KV_OK;
    case KV_OP_DELETE:
        return there && !again ? KV_OK : KV_NOT_FOUND;
    default:
        return there ? KV_OK : KV_NOT_FOUND;
    }
}

static void decide_client(kv_chain_update *own)
{
    kv_update *update = &own->update;
    uint64_t expiry_ms = own->operation == KV_OP_SET ? expiry_of(own) : 0;
    met_keys met = {{0}};

    for (uint32_t i = 0; i < update->count; i++) {
        if (own->operation == KV_OP_SET)
            own->request->request.stats[i].expiry_ms = expiry_ms;
        if (update->statuses[i] == KV_OK && (own->if_absent || own->operation != KV_OP_SET))
            update->statuses[i] = (uint8_t)judge(own, i, &met);
    }
    update->careful = own->operation == KV_OP_SET && own->retained &&
                      kv_chain_is_short(own->chain);
}

/* An item that came before, and was applied. */
static bool is_here(const kv_chain_update *own, uint32_t i)
{
    const kv_update_key *key = &own->update.keys[i];
    kv_item_stat stat;
    uint32_t size;

    return own->versions[i] != 0 &&
           kv_engine_peek(own->chain->target->engine, key->key, key->key_size, &stat, &size) == 0 &&
           stat.version == own->versions[i];
}

/* All of it came before: the update that it came by has ended, here and down the chain. It is not
 * done again, and is answered as that one was. False: an item is refused that may not be. */
static bool decide_repeated(kv_chain_update *own)
{
    own->repeated = true;
    for (uint32_t i = 0; i < own->update.count; i++) {
        if (own->update.statuses[i] != KV_OK)
            continue;
        if (!is_here(own, i) && !own->refusable)
            return false;
        own->refusals[i] = is_here(own, i) ? KV_OK : KV_NO_SPACE;
        own->update.statuses[i] = KV_EXISTS; /* not to be applied or forwarded */
        own->here[i] = true;
    }
    return true;
}

/* What there is no room for here may be here already, from a forward before this one; what is here
 * already, no successor may refuse. False: what the predecessor counts on cannot be done. */
static bool decide_peer(kv_chain_update *own)
{
    bool here = false, refused = false, refused_here = false;

    own->update.careful = own->refusable && own->retained;
    for (uint32_t i = 0; own->operation == KV_OP_SET && i < own->update.count; i++) {
        if (own->update.statuses[i] != KV_OK || (own->refusals[i] == KV_OK && !own->refusable))
            continue;
        here |= is_here(own, i);
        refused |= own->refusals[i] != KV_OK;
        refused_here |= own->refusals[i] != KV_OK && is_here(own, i);
    }
    own->update.careful &= !here;
    if (refused_here)
        return decide_repeated(own);
    for (uint32_t i = 0; refused && own->refusable && i < own->update.count; i++)
        if (own->update.statuses[i] == KV_OK)
            own->update.statuses[i] = own->refusals[i];
    return !refused || own->refusable;
}

void kv_chain_take_turn(kv_chain_update *own)
{
    if (!kv_chain_has_lease(own->chain->node)) {
        kv_chain_decide(own, KV_WRONG_TARGET);
    } else if (own->batch) {
        kv_sync_look(own->batch); /* kv_chain_decide follows when its values are known */
    } else if (own->eviction) {
        kv_evict_look(own->eviction);
    } else if (own->update.source == KV_UPDATE_CLIENT) {
        decide_client(own);
        kv_chain_decide(own, KV_OK);
    } else if (decide_peer(own)) {
        kv_chain_decide(own, KV_OK);
    } else {
        kv_chain_fail(own->chain, ENOSPC, "it has no room for an update of its chain");
        kv_chain_decide(own, KV_WRONG_TARGET);
    }
}
