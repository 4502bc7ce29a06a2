/* What is behind a chain's mutex: the replica, what is said of the chain, and the effects that
 * calls bring about. See chain.h. */

#include "node/chain.h"

#include "bytes/hash.h"
#include "client/addresses.h"
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
    kv_peer_aim aim;

    /* Release, acquire: what is said from here on is posted anew. */
    atomic_store_explicit(&news->posted, false, memory_order_seq_cst);
    aim = kv_chain_aim(chain);
    if (chain->peers[number])
        kv_peer_set_aim(chain->peers[number], &aim);
    if (&chain->node->loops[number] == kv_chain_loop(chain)) {
        kv_resync_look(chain->resync);
        kv_mover_look(chain->mover);
    }
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

    chain->peers = calloc(loop_count, sizeof(kv_peer *));
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
    pthread_mutex_init(&chain->mutex, NULL);
    error = chain_allocate(chain);
    if (error == 0)
        error = kv_resync_open(chain, &chain->resync);
    if (error == 0)
        error = kv_mover_open(chain, &chain->mover);
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
            chain->lost_told = false;
        }
        /* Relaxed: a reader may as well have come a moment before. */
        atomic_store_explicit(&chain->version, place->flags ? place->chain_version : 0,
                              memory_order_relaxed);
    }
    unlock(chain, NULL);
    kv_chain_spread_news(chain);
}

kv_peer_aim kv_chain_aim(kv_chain *chain)
{
    kv_peer_aim aim;
    uint32_t pool;

    lock(chain);
    pool = chain->place.position + 1;
    aim = (kv_peer_aim){.endpoint = chain->endpoint,
                        .target = chain->place.successor,
                        .pool = pool < KV_NODE_POOLS ? pool : KV_NODE_POOLS - 1,
                        .closes = chain->stopped};
    pthread_mutex_unlock(&chain->mutex);
    return aim;
}

kv_peer *kv_chain_peer(kv_chain *chain, kv_loop *loop)
{
    kv_peer **peer = &chain->peers[loop - chain->node->loops];
    kv_peer_aim aim = kv_chain_aim(chain);

    if (!*peer)
        *peer = kv_peer_open(chain, loop, peer, NULL);
    if (*peer)
        kv_peer_set_aim(*peer, &aim);
    return *peer;
}

void kv_chain_tell_lost(kv_chain *chain, int error, const char *reason)
{
    bool told;
    uint32_t endpoint;
    uint32_t target;

    lock(chain);
    endpoint = chain->endpoint;
    target = chain->place.successor;
    told = chain->lost_told || endpoint == KV_CHAIN_NO_ENDPOINT;
    chain->lost_told = true;
    pthread_mutex_unlock(&chain->mutex);
    if (!told)
        kv_events_report(&chain->node->events, KV_EVENT_PEER_LOST, error, target,
                         "%s: target %u: %.120s", kv_addresses_name(chain->node->addresses, endpoint),
                         target, reason);
}

void kv_chain_tell_found(kv_chain *chain)
{
    lock(chain);
    chain->lost_told = false;
    pthread_mutex_unlock(&chain->mutex);
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

void kv_chain_enter(kv_chain_update *own)
{
    assert(!own->entered);
    own->entered = true;
    lock(own->chain);
    own->chain->updates_total += own->batch == NULL;
    kv_replica_came(own->chain->replica, &own->update);
    unlock(own->chain, own->loop);
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

bool kv_chain_acknowledge(kv_chain_update *own, const kv_wire_forwarded *answer)
{
    kv_chain *chain = own->chain;
    bool legal;

    lock(chain);
    if (answer && own->sent_target == chain->place.successor)
        chain->successor_free = answer->space_free;
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
    chain->objects_short = target->objects_max > 0 &&
                           statistics.objects + KV_NODE_OBJECTS_MARGIN > target->objects_max;
}

uint64_t kv_chain_space(kv_chain *chain)
{
    uint64_t space;

    lock(chain);
    space_look(chain);
    space = chain->objects_short ? 0 : chain->space_free;
    if (kv_replica_view_of(chain->replica)->has_successor && chain->successor_free < space)
        space = chain->successor_free;
    pthread_mutex_unlock(&chain->mutex);
    return space;
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
