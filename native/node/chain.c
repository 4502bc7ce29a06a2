/* What is behind a chain's mutex: the replica, what is said of the chain, and the effects that
 * calls bring about. See chain.h. */

#include "node/chain.h"

#include "bytes/hash.h"
#include "client/addresses.h"
#include "node/evictor.h"
#include "node/mover.h"
#include "node/resync.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

uint64_t kv_chain_hash(const kv_chain *chain, const void *key, uint32_t key_size)
{
    return kv_hash(chain->seed, key, key_size);
}

bool kv_chain_has_lease(const kv_node *node)
{
    /* Relaxed: the figure stands for itself. */
    return kv_clock_ns() < atomic_load_explicit(&node->lease_end_ns, memory_order_relaxed);
}

kv_loop *kv_chain_loop(kv_chain *chain)
{
    kv_node *node = chain->node;

    return &node->loops[(uint32_t)(chain->target - node->targets) % node->loop_count];
}

static void deliver_update(kv_mail *mail)
{
    kv_chain_update *own = KV_CONTAINER(mail, kv_chain_update, mail);

    kv_list_append(&own->loop->updates, &own->link);
}

/* Locked: hand effects to the loops that have the updates. */
static void hand_out(kv_chain *chain, kv_loop *here)
{
    uint32_t effects;
    kv_update *update;

    while ((update = kv_replica_next(chain->replica, &effects)) != NULL) {
        kv_chain_update *own = KV_CONTAINER(update, kv_chain_update, update);

        own->effects |= effects;
        if (own->queued)
            continue;
        own->queued = true;
        own->mail.deliver = deliver_update;
        if (own->loop == here)
            kv_list_append(&here->updates, &own->link);
        else
            kv_reactor_post(own->loop->reactor, &own->mail);
    }
}

/* Locked: what readers look at. An update that was given up may have been seen by one that looked
 * it up before, so service begins anew with it. */
static void show(kv_chain *chain)
{
    uint64_t given_up = kv_replica_given_up(chain->replica);
    bool serves = kv_replica_view_of(chain->replica)->serves;
    uint64_t epoch = atomic_load_explicit(&chain->epoch, memory_order_relaxed);

    if (!serves)
        epoch = 0;
    else if (epoch == 0 || given_up != chain->given_up)
        epoch = ++chain->epoch_last;
    chain->given_up = given_up;
    atomic_store_explicit(&chain->epoch, epoch, memory_order_relaxed);
    /* Release: who sees no update any more sees the epoch that its end brought about. */
    atomic_store_explicit(&chain->update_count, kv_replica_count(chain->replica),
                          memory_order_release);
}

static void lock(kv_chain *chain)
{
    pthread_mutex_lock(&chain->mutex);
}

/* After a call that may have brought effects about. */
static void unlock(kv_chain *chain, kv_loop *here)
{
    hand_out(chain, here);
    show(chain);
    pthread_mutex_unlock(&chain->mutex);
}

/* ---- its life ---- */

static void deliver_news(kv_mail *mail)
{
    kv_chain_news *news = KV_CONTAINER(mail, kv_chain_news, mail);
    kv_chain *chain = news->chain;
    uint32_t number = (uint32_t)(news - chain->news);
    kv_loop *loop = &chain->node->loops[number];

    /* Release, acquire: what is said from here on is posted anew. */
    atomic_store_explicit(&news->posted, false, memory_order_seq_cst);
    kv_chain_aim_peers(chain, loop);
    if (loop != kv_chain_loop(chain))
        return;
    kv_resync_look(chain->resync);
    kv_mover_look(chain->mover);
    if (chain->evictor)
        kv_evictor_look(chain->evictor);
}

void kv_chain_spread_news(kv_chain *chain)
{
    for (uint32_t i = 0; i < chain->node->loop_count; i++)
        if (!atomic_exchange_explicit(&chain->news[i].posted, true, memory_order_seq_cst))
            kv_reactor_post(chain->node->loops[i].reactor, &chain->news[i].mail);
}

static int chain_allocate(kv_chain *chain)
{
    uint32_t loop_count = chain->node->loop_count;

    chain->peers = calloc(2 * (size_t)loop_count, sizeof(kv_peer *));
    chain->news = calloc(loop_count, sizeof(*chain->news));
    if (!chain->peers || !chain->news)
        return -ENOMEM;
    for (uint32_t i = 0; i < loop_count; i++) {
        chain->news[i].mail.deliver = deliver_news;
        chain->news[i].chain = chain;
    }
    if (getrandom(&chain->seed, sizeof(chain->seed), 0) != sizeof(chain->seed))
        return -EIO;
    return kv_replica_open(KV_NODE_REPLICA_PLACES, &chain->replica);
}

int kv_chain_open(kv_node *node, kv_target *target, kv_chain **result)
{
    kv_chain *chain = calloc(1, sizeof(*chain));
    int error;

    if (!chain)
        return -ENOMEM;
    chain->node = node;
    chain->target = target;
    chain->endpoint = KV_CHAIN_NO_ENDPOINT;
    kv_list_init(&chain->claims);
    kv_chain_set_limits(chain);
    pthread_mutex_init(&chain->mutex, NULL);
    error = chain_allocate(chain);
    if (error == 0)
        error = kv_resync_open(chain, &chain->resync);
    if (error == 0)
        error = kv_mover_open(chain, &chain->mover);
    if (error == 0 && target->caches)
        error = kv_evictor_open(chain, &chain->evictor);
    if (error < 0) {
        kv_chain_close(chain);
        return error;
    }
    *result = chain;
    return 0;
}

void kv_chain_close(kv_chain *chain)
{
    if (chain->mover)
        kv_mover_close(chain->mover);
    if (chain->evictor)
        kv_evictor_close(chain->evictor);
    if (chain->resync)
        kv_resync_close(chain->resync);
    if (chain->replica)
        kv_replica_close(chain->replica);
    pthread_mutex_destroy(&chain->mutex);
    free(chain->peers);
    free(chain->news);
    free(chain);
}

/* Locked: in no chain any more, as far as this target is concerned. */
static void retire(kv_chain *chain)
{
    kv_replica_view none = {0};

    kv_replica_configure(chain->replica, &none);
    kv_mover_forget(chain->mover);
    chain->endpoint = KV_CHAIN_NO_ENDPOINT;
}

void kv_chain_stop_all(kv_node *node)
{
    for (uint32_t i = 0; i < node->target_count; i++) {
        kv_chain *chain = atomic_load_explicit(&node->targets[i].chain, memory_order_acquire);

        if (!chain)
            continue;
        lock(chain);
        chain->stopped = true;
        retire(chain);
        unlock(chain, NULL);
        kv_engine_set_wanted(chain->target->engine, NULL, NULL);
        kv_chain_spread_news(chain);
    }
}

void kv_chain_close_all(kv_node *node)
{
    for (uint32_t i = 0; i < node->target_count; i++) {
        kv_chain *chain = atomic_load_explicit(&node->targets[i].chain, memory_order_acquire);

        if (chain)
            kv_chain_close(chain);
    }
    if (node->addresses)
        kv_addresses_close(node->addresses);
}

/* ---- what is said of it ---- */

static kv_replica_view view_of(const kv_chain_place *place)
{
    return (kv_replica_view){.chain_version = place->chain_version,
                             .serves = place->flags & KV_CHAIN_SERVES,
                             .syncs = place->flags & KV_CHAIN_SYNCS,
                             .head = place->flags & KV_CHAIN_HEAD,
                             .has_successor = place->successor_node != KV_NO_SUCCESSOR,
                             .successor_syncs = place->successor_flags & KV_CHAIN_SYNCS,
                             .successor = place->successor};
}

/* Locked. Whether updates may have taken effect in the chain of which this node has no record. */
static bool missed_updates(const kv_chain *chain, const kv_replica_view *view)
{
    const kv_replica_view *before = kv_replica_view_of(chain->replica);
    bool took_part = before->serves || before->syncs;

    if (view->syncs)
        return view->chain_version != before->chain_version || !took_part;
    return view->serves && !took_part && view->chain_version > 1;
}

static void records_forget(kv_node *node)
{
    pthread_mutex_lock(&node->channels_mutex);
    kv_channels_forget(node->channels);
    pthread_mutex_unlock(&node->channels_mutex);
}

void kv_chain_configure(kv_chain *chain, const kv_chain_place *place, uint32_t endpoint)
{
    kv_replica_view view = view_of(place);
    bool moved;

    if (place->flags == 0)
        view = (kv_replica_view){0};
    lock(chain);
    moved = place->successor != chain->place.successor || endpoint != chain->endpoint;
    if (missed_updates(chain, &view))
        records_forget(chain->node);
    if (!chain->stopped && !chain->offline && kv_replica_configure(chain->replica, &view)) {
        chain->place = *place;
        chain->endpoint = endpoint;
        if (moved) {
            chain->successor_free = 0; /* it has not said yet */
            chain->successor_lacks = (kv_engine_shortage){0};
            chain->lost_told = false;
        }
        /* Relaxed: a reader may as well have come a moment before. */
        atomic_store_explicit(&chain->version, place->flags ? place->chain_version : 0,
                              memory_order_relaxed);
        /* Alone it evicts as it likes; with others none but the head does, and for all. */
        kv_engine_set_evicts(chain->target->engine,
                             view.serves && view.head && !view.has_successor);
    }
    unlock(chain, NULL);
    kv_chain_spread_news(chain);
}

void kv_chain_fail(kv_chain *chain, int error, const char *reason)
{
    bool told;

    lock(chain);
    told = chain->offline || chain->stopped;
    if (!told) {
        chain->offline = true;
        chain->error = error;
        retire(chain);
    }
    unlock(chain, NULL);
    if (told)
        return;
    kv_chain_spread_news(chain);
    atomic_store_explicit(&chain->target->offline_told, true, memory_order_relaxed);
    kv_events_report(&chain->node->events, KV_EVENT_TARGET_OFFLINE, error, 0,
                     "target %u leaves its chain: %s: %s", chain->target->number, reason,
                     strerror(error));
}

/* ---- updates ---- */

kv_status kv_chain_admit(kv_chain *chain, kv_update_source source, uint64_t chain_version)
{
    kv_status status;

    if (!kv_chain_has_lease(chain->node))
        return KV_WRONG_TARGET;
    lock(chain);
    status = kv_replica_admits(chain->replica, source, chain_version);
    pthread_mutex_unlock(&chain->mutex);
    return status;
}

void kv_chain_join(kv_chain_update *own)
{
    kv_chain *chain = own->chain;

    lock(chain);
    own->retained = own->batch || own->operation != KV_OP_SET ||
                    kv_replica_view_of(chain->replica)->has_successor;
    chain->unretained_count += !own->retained;
    pthread_mutex_unlock(&chain->mutex);
    own->loop->update_count++;
}

void kv_chain_leave(kv_chain_update *own)
{
    kv_chain *chain = own->chain;
    bool quiet;

    assert(!own->queued && own->claim == KV_CLAIM_NONE);
    lock(chain);
    assert(own->retained || chain->unretained_count > 0);
    chain->unretained_count -= !own->retained;
    quiet = !own->retained && chain->unretained_count == 0;
    pthread_mutex_unlock(&chain->mutex);
    if (quiet)
        kv_chain_spread_news(chain); /* resync may wait for it */
    own->loop->update_count--;
}

/* Locked: the successor may come to lack space without being able to tell. */
static void evictor_wake(kv_chain *chain)
{
    const kv_replica_view *view = kv_replica_view_of(chain->replica);

    if (!chain->evictor || chain->ticks || !view->has_successor)
        return;
    chain->ticks = true;
    kv_evictor_post(chain->evictor);
}

void kv_chain_enter(kv_chain_update *own)
{
    assert(!own->entered);
    own->entered = true;
    lock(own->chain);
    own->chain->updates_total += own->batch == NULL;
    kv_replica_came(own->chain->replica, &own->update);
    evictor_wake(own->chain);
    unlock(own->chain, own->loop);
}

uint32_t kv_chain_enter_free(kv_chain_update *own)
{
    kv_chain *chain = own->chain;
    kv_update *update = &own->update;

    lock(chain);
    for (uint32_t i = 0; i < update->count;) {
        kv_update_key key = update->keys[i];

        if (kv_replica_is_held(chain->replica, key.key, key.key_size, key.hash)) {
            update->keys[i] = update->keys[--update->count];
            update->keys[update->count] = key;
        } else {
            i++;
        }
    }
    own->message.count = update->count;
    own->entered = update->count > 0;
    if (own->entered)
        kv_replica_came(chain->replica, update);
    unlock(chain, own->loop);
    return update->count;
}

void kv_chain_decide(kv_chain_update *own, kv_status status)
{
    lock(own->chain);
    kv_replica_decided(own->chain->replica, &own->update, status);
    unlock(own->chain, own->loop);
}

void kv_chain_applied(kv_chain_update *own)
{
    lock(own->chain);
    kv_mover_note(own->chain->mover, &own->update);
    kv_replica_applied(own->chain->replica, &own->update);
    unlock(own->chain, own->loop);
}

void kv_chain_severed(kv_chain *chain, kv_loop *here)
{
    lock(chain);
    kv_replica_severed(chain->replica);
    unlock(chain, here);
}

/* Locked. */
static void hear(kv_chain *chain, uint32_t target, const kv_wire_forwarded *answer)
{
    if (target != chain->place.successor)
        return; /* it was another one */
    chain->successor_free = answer->space_free;
    chain->successor_lacks = (kv_engine_shortage){.size = answer->space_wanted,
                                                  .count = answer->objects_wanted};
    chain->answer_count++;
    if (chain->evictor && (answer->space_wanted > 0 || answer->objects_wanted > 0))
        kv_evictor_post(chain->evictor);
}

void kv_chain_hear(kv_chain *chain, uint32_t target, const kv_wire_forwarded *answer)
{
    pthread_mutex_lock(&chain->mutex);
    hear(chain, target, answer);
    pthread_mutex_unlock(&chain->mutex);
}

bool kv_chain_acknowledge(kv_chain_update *own, const kv_wire_forwarded *answer)
{
    kv_chain *chain = own->chain;
    bool legal;

    lock(chain);
    if (answer)
        hear(chain, own->sent_target, answer);
    legal = kv_replica_acknowledged(chain->replica, &own->update, own->sent_version,
                                    own->sent_attempt, answer ? answer->statuses : NULL);
    unlock(chain, own->loop);
    return legal;
}

bool kv_chain_forwards(kv_chain_update *own)
{
    bool wanted;

    lock(own->chain);
    wanted = kv_replica_forwards(&own->update, own->sent_version, own->sent_attempt);
    pthread_mutex_unlock(&own->chain->mutex);
    return wanted;
}

bool kv_chain_take_back(kv_chain_update *own, kv_status status)
{
    bool taken;

    lock(own->chain);
    taken = kv_replica_withdraw(own->chain->replica, &own->update, status);
    unlock(own->chain, own->loop);
    return taken;
}

void kv_chain_carry_out(kv_loop *loop)
{
    kv_list *link;

    while ((link = kv_list_pop(&loop->updates)) != NULL) {
        kv_chain_update *own = KV_CONTAINER(link, kv_chain_update, link);
        uint32_t effects;

        lock(own->chain);
        assert(own->queued && own->loop == loop);
        effects = own->effects;
        own->effects = 0;
        own->queued = false;
        if (effects & KV_EFFECT_FORWARD) {
            own->sent_version = own->update.forward_version;
            own->sent_attempt = own->update.forward_attempt;
            own->sent_target = own->update.successor;
            own->sent_careful = own->update.careful;
        }
        pthread_mutex_unlock(&own->chain->mutex);
        kv_chain_update_carry_out(own, effects);
    }
}
