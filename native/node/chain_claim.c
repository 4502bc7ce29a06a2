/* A target's budget of values that are kept for its successor, and in cache mode of all that are on
 * their way: an update is taken in when all of its values have room beside those, or when there are
 * none. First come, first served, so
 * that a large one is not passed by small ones for ever. */

#include "node/chain.h"

#include <assert.h>

static bool has_room(const kv_chain *chain, uint64_t size)
{
    return chain->retained == 0 || chain->retained + size <= chain->retained_max;
}

static void deliver_claim(kv_mail *mail)
{
    kv_chain_granted(KV_CONTAINER(mail, kv_chain_update, claim_mail));
}

/* Locked: those who waited longest, as far as there is room. */
static void grant_all(kv_chain *chain)
{
    while (!kv_list_empty(&chain->claims)) {
        kv_chain_update *first = KV_CONTAINER(chain->claims.next, kv_chain_update, claim_link);

        if (!has_room(chain, first->claimed))
            break;
        kv_list_remove(&first->claim_link);
        chain->retained += first->claimed;
        first->claim = KV_CLAIM_GRANTED;
        first->claim_mail.deliver = deliver_claim;
        kv_reactor_post(first->loop->reactor, &first->claim_mail);
    }
}

bool kv_chain_claim(kv_chain_update *own, uint64_t size)
{
    kv_chain *chain = own->chain;
    bool granted;

    assert(own->claim == KV_CLAIM_NONE);
    own->claimed = size;
    pthread_mutex_lock(&chain->mutex);
    granted = size == 0 || (kv_list_empty(&chain->claims) && has_room(chain, size));
    if (granted) {
        chain->retained += size;
        own->claim = KV_CLAIM_HELD;
    } else {
        own->claim = KV_CLAIM_WAITS;
        kv_list_append(&chain->claims, &own->claim_link);
    }
    pthread_mutex_unlock(&chain->mutex);
    return granted;
}

bool kv_chain_unclaim(kv_chain_update *own)
{
    kv_chain *chain = own->chain;
    bool waited;

    pthread_mutex_lock(&chain->mutex);
    waited = own->claim == KV_CLAIM_WAITS;
    if (waited) {
        kv_list_remove(&own->claim_link);
        own->claim = KV_CLAIM_NONE;
        grant_all(chain); /* it may have been in the way of smaller ones */
    }
    pthread_mutex_unlock(&chain->mutex);
    return waited;
}

void kv_chain_give_claim(kv_chain_update *own)
{
    kv_chain *chain = own->chain;

    pthread_mutex_lock(&chain->mutex);
    assert(own->claim == KV_CLAIM_HELD || own->claim == KV_CLAIM_GRANTED);
    assert(chain->retained >= own->claimed);
    own->claim = KV_CLAIM_NONE;
    chain->retained -= own->claimed;
    grant_all(chain);
    pthread_mutex_unlock(&chain->mutex);
}
