/* See resync.h. Own objects and the successor's are gone through page by page; of a page, what is
 * to be compared is a part at a time, and what the successor lacks leaves before the next. */

#include "node/resync_state.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull

static void timer_expires(kv_timer *timer)
{
    kv_resync_look(KV_CONTAINER(timer, kv_resync, timer));
}

int kv_resync_open(kv_chain *chain, kv_resync **result)
{
    kv_resync *resync = calloc(1, sizeof(*resync));

    if (!resync)
        return -ENOMEM;
    resync->chain = chain;
    resync->loop = kv_chain_loop(chain);
    resync->timer.expire = timer_expires;
    kv_list_init(&resync->message.link);
    *result = resync;
    return 0;
}

static void kept_drop(kv_resync *resync)
{
    while (resync->kept_count > 0)
        kv_sync_close(resync->kept[--resync->kept_count]);
}

void kv_resync_close(kv_resync *resync)
{
    assert(resync->batch_count == 0);
    kept_drop(resync);
    kv_resync_digest_end(resync);
    free(resync->page);
    free(resync);
}

void kv_resync_state(kv_resync *resync, kv_chain_state *state)
{
    uint64_t since_ns;

    /* Relaxed: figures for people. */
    state->resyncing = atomic_load_explicit(&resync->running, memory_order_relaxed);
    state->resync_compared = atomic_load_explicit(&resync->compared, memory_order_relaxed);
    state->resync_sent = atomic_load_explicit(&resync->sent, memory_order_relaxed);
    state->resync_sent_bytes = atomic_load_explicit(&resync->sent_bytes, memory_order_relaxed);
    since_ns = atomic_load_explicit(&resync->vain_since_ns, memory_order_relaxed);
    state->resync_vain_ms = since_ns > 0 ? (kv_clock_ns() - since_ns) / NS_PER_MS : 0;
}

static void pause_for(kv_resync *resync, uint64_t due_ns)
{
    kv_timer_set(resync->loop->reactor, &resync->timer, due_ns);
}

void kv_resync_pause(kv_resync *resync)
{
    pause_for(resync, kv_clock_ns() + KV_NODE_RESYNC_PAUSE_MS * NS_PER_MS);
}

/* ---- entries ---- */

static uint32_t entry_size(const uint8_t *entry)
{
    return KV_STORED_ENTRY_SIZE + kv_endian_load_u16(entry);
}

static uint64_t entry_value_size(const uint8_t *entry)
{
    return kv_endian_load_u32(entry + KV_ENTRY_AT_SIZE);
}

/* The next entry of the page; NULL: there is none, or it is damaged (another node's word). */
static const uint8_t *entry_next(kv_resync *resync)
{
    const uint8_t *entry = resync->page + resync->page_at;
    uint32_t left = resync->page_size - resync->page_at;

    if (left < KV_STORED_ENTRY_SIZE || left < entry_size(entry) ||
        kv_endian_load_u16(entry) == 0 || kv_endian_load_u16(entry) > KV_STORED_KEY_SIZE_MAX)
        return NULL;
    resync->page_at += entry_size(entry);
    return entry;
}

static void vain_end(kv_resync *resync)
{
    resync->vain = 0;
    atomic_store_explicit(&resync->vain_since_ns, 0, memory_order_relaxed);
}

void kv_resync_rest(kv_resync *resync)
{
    resync->stage = KV_RESYNC_REST;
    vain_end(resync);
    kept_drop(resync);
    kv_resync_digest_end(resync);
    free(resync->page);
    resync->page = NULL;
    if (kv_timer_is_set(&resync->timer))
        kv_timer_stop(resync->loop->reactor, &resync->timer);
    atomic_store_explicit(&resync->running, false, memory_order_relaxed);
}

/* ---- batches ---- */

static void batch_keep(kv_resync *resync, kv_sync_batch *batch)
{
    uint64_t pause_ms = kv_sync_tries(batch) > 0 ? KV_NODE_RESYNC_CORRUPT_MS
                                                 : KV_NODE_RESYNC_KEPT_MS << resync->vain;
    uint64_t due_ns = kv_clock_ns() + pause_ms * NS_PER_MS;

    if (resync->kept_count == 0 || due_ns < resync->kept_due_ns || resync->vain > 0)
        resync->kept_due_ns = due_ns;
    resync->kept[resync->kept_count++] = batch;
}

/* Where nothing at all finds room, it is looked for less and less often, and people are told. */
static void vain_note(kv_resync *resync, const kv_sync_batch *batch, const kv_sync_result *result)
{
    bool refused = kv_sync_count(batch) > 0 && kv_sync_tries(batch) == 0;

    if (result->count > 0) {
        vain_end(resync);
    } else if (refused && !result->failed && resync->batch_count == 0) {
        if (resync->vain == 0)
            atomic_store_explicit(&resync->vain_since_ns, kv_clock_ns(), memory_order_relaxed);
        if (resync->vain < KV_NODE_RESYNC_KEPT_DOUBLED_MAX)
            resync->vain++;
    }
}

void kv_resync_batch_ended(kv_resync *resync, kv_sync_batch *batch, const kv_sync_result *result)
{
    assert(resync->batch_count > 0);
    assert(resync->batch_count + resync->kept_count <= KV_NODE_RESYNC_IN_FLIGHT);
    resync->batch_count--;
    if (result->failed && !resync->failed) {
        resync->failed = true;
        resync->due_ns = kv_clock_ns() + KV_NODE_RESYNC_FAILED_MS * NS_PER_MS;
    }
    resync->probing = kv_sync_count(batch) > 0 && kv_sync_tries(batch) == 0;
    vain_note(resync, batch, result);
    if (!result->failed) {
        atomic_fetch_add_explicit(&resync->sent, result->count, memory_order_relaxed);
        atomic_fetch_add_explicit(&resync->sent_bytes, result->size, memory_order_relaxed);
    }
    if (result->failed || kv_sync_count(batch) == 0)
        kv_sync_close(batch);
    else
        batch_keep(resync, batch);
    kv_resync_look(resync);
}

/* So that the bytes before these take their time. */
static bool rate_allows(kv_resync *resync)
{
    if (kv_clock_ns() >= resync->due_ns)
        return true;
    pause_for(resync, resync->due_ns);
    return false;
}

static void rate_note(kv_resync *resync, uint64_t size)
{
    uint64_t rate = atomic_load_explicit(&resync->chain->node->resync_rate, memory_order_relaxed);
    uint64_t now_ns = kv_clock_ns();

    if (resync->due_ns < now_ns)
        resync->due_ns = now_ns;
    if (rate > 0)
        resync->due_ns += size * NS_PER_S / rate;
}

/* How many of the entries that are wanted go together. */
static uint32_t batch_measure(const kv_resync *resync)
{
    uint32_t left = resync->wanted_count - resync->wanted_at;
    uint64_t size = 0;
    uint32_t count = 0;

    while (count < left && count < KV_NODE_RESYNC_BATCH_COUNT) {
        uint64_t next = resync->stage == KV_RESYNC_COMPARE
                            ? entry_value_size(resync->wanted[resync->wanted_at + count])
                            : 0;

        if (count > 0 && size + next > KV_NODE_RESYNC_BATCH_SIZE)
            break;
        size += next;
        count++;
    }
    return count;
}

/* What is refused came in vain: so the less the better. */
static bool waits_for_room(const kv_resync *resync)
{
    return resync->probing && resync->batch_count > 0;
}

/* False: no memory. */
static bool batch_begin(kv_resync *resync, kv_sync_batch *batch)
{
    if (!batch || !kv_sync_begin(batch)) {
        kv_resync_pause(resync);
        return false;
    }
    resync->batch_count++;
    rate_note(resync, kv_sync_size(batch));
    return true;
}

/* False: not now. */
static bool batch_send(kv_resync *resync)
{
    kv_sync_aim aim = resync->stage == KV_RESYNC_COMPARE ? KV_SYNC_SET : KV_SYNC_REMOVE;
    uint32_t count = batch_measure(resync);
    kv_sync_batch *batch;

    if (resync->batch_count + resync->kept_count == KV_NODE_RESYNC_IN_FLIGHT ||
        waits_for_room(resync) || !rate_allows(resync))
        return false;
    batch = kv_sync_open(resync, resync->chain, resync->loop, aim,
                         resync->wanted + resync->wanted_at, count);
    if (!batch_begin(resync, batch)) {
        if (batch)
            kv_sync_close(batch);
        return false;
    }
    resync->wanted_at += count;
    return true;
}

/* What was kept goes before anything else, all of it when the first of it is due. */
static void kept_send(kv_resync *resync)
{
    bool due = resync->kept_count > 0 && kv_clock_ns() >= resync->kept_due_ns;

    while (due && resync->kept_count > 0 && !waits_for_room(resync) && rate_allows(resync)) {
        if (!batch_begin(resync, resync->kept[resync->kept_count - 1]))
            return;
        resync->kept_count--;
    }
}

/* ---- stages ---- */

static void stage_begin(kv_resync *resync, kv_resync_stage next)
{
    resync->stage = next;
    resync->turns = 0;
    resync->cursor = 0;
    resync->page_size = resync->page_at = 0;
    resync->part_count = resync->wanted_count = resync->wanted_at = 0;
}

/* The next page of own objects. False: not in this turn. */
static bool page_take(kv_resync *resync)
{
    int64_t size;

    if (resync->pages == KV_NODE_RESYNC_PAGES_A_TURN) {
        pause_for(resync, kv_clock_ns());
        return false;
    }
    resync->pages++;
    size = kv_engine_list_stored(resync->chain->target->engine, &resync->cursor, resync->page,
                                 KV_NODE_RESYNC_PAGE_SIZE);
    assert(size >= 0); /* a page holds any entry */
    resync->page_size = (uint32_t)size;
    resync->page_at = 0;
    return true;
}

/* One more page counts. False: wait. */
static bool digest_more(kv_resync *resync)
{
    if (resync->cursor == UINT64_MAX) {
        stage_begin(resync, KV_RESYNC_ASK);
        return true;
    }
    if (!page_take(resync))
        return false;
    kv_resync_digest_add(resync);
    return true;
}

/* False: wait. */
static bool ask_more(kv_resync *resync)
{
    if (resync->cursor != UINT64_MAX) {
        kv_resync_ask(resync);
        return false;
    }
    kv_resync_digest_compare(resync);
    stage_begin(resync, KV_RESYNC_REMOVE);
    return true;
}

/* Entries of the page that are to be compared; the others are alike. */
static void parts_take(kv_resync *resync)
{
    uint64_t alike = 0;
    const uint8_t *entry;

    while (resync->part_count < KV_NODE_RESYNC_COMPARE_COUNT && (entry = entry_next(resync))) {
        if (kv_resync_digest_differs(resync, entry + KV_STORED_ENTRY_SIZE,
                                     kv_endian_load_u16(entry)))
            resync->parts[resync->part_count++] = entry;
        else
            alike++;
    }
    atomic_fetch_add_explicit(&resync->compared, alike, memory_order_relaxed);
}

/* A part of the page is compared, or the next page taken. False: wait. */
static bool compare_more(kv_resync *resync)
{
    parts_take(resync);
    if (resync->part_count > 0) {
        kv_resync_compare(resync);
        return false;
    }
    if (resync->cursor == UINT64_MAX) {
        stage_begin(resync, KV_RESYNC_TELL);
        return true;
    }
    return page_take(resync);
}

/* What the successor has and this target has not goes first: it makes room. False: wait. */
static bool remove_more(kv_resync *resync)
{
    const uint8_t *entry;

    while (resync->wanted_count < KV_NODE_RESYNC_COMPARE_COUNT && (entry = entry_next(resync))) {
        kv_item_stat stat;
        uint32_t size;

        if (kv_engine_peek(resync->chain->target->engine, entry + KV_STORED_ENTRY_SIZE,
                           kv_endian_load_u16(entry), &stat, &size) < 0)
            resync->wanted[resync->wanted_count++] = entry;
    }
    if (resync->wanted_count > 0)
        return true;
    if (resync->cursor == UINT64_MAX)
        stage_begin(resync, KV_RESYNC_COMPARE);
    else
        kv_resync_list(resync);
    return resync->stage == KV_RESYNC_COMPARE;
}

/* Until updates that ran while keys were compared have ended, the successor may hold an old object
 * and not have applied yet what replaces it. */
static void tell_if_settled(kv_resync *resync)
{
    kv_chain *chain = resync->chain;
    bool settled;

    if (resync->batch_count > 0 || resync->kept_count > 0 || resync->failed)
        return; /* its end comes back here */
    pthread_mutex_lock(&chain->mutex);
    if (resync->turns == 0)
        resync->turns = kv_replica_turns(chain->replica);
    settled = kv_replica_settled(chain->replica, resync->turns);
    pthread_mutex_unlock(&chain->mutex);
    if (settled)
        kv_resync_tell(resync);
    else
        kv_resync_pause(resync);
}

/* What is wanted leaves first: it lies in the page. False: wait. */
static bool go_on(kv_resync *resync)
{
    if (resync->wanted_at < resync->wanted_count)
        return batch_send(resync);
    resync->wanted_count = resync->wanted_at = 0;
    switch (resync->stage) {
    case KV_RESYNC_DIGEST:
        return digest_more(resync);
    case KV_RESYNC_ASK:
        return ask_more(resync);
    case KV_RESYNC_COMPARE:
        return compare_more(resync);
    case KV_RESYNC_REMOVE:
        return remove_more(resync);
    case KV_RESYNC_TELL:
        tell_if_settled(resync);
        return false;
    default:
        return false;
    }
}

static void begin_anew(kv_resync *resync, uint64_t version)
{
    resync->version = version;
    resync->failed = false;
    vain_end(resync);
    kept_drop(resync);
    stage_begin(resync, KV_RESYNC_QUIET);
    atomic_store_explicit(&resync->compared, 0, memory_order_relaxed);
    atomic_store_explicit(&resync->sent, 0, memory_order_relaxed);
    atomic_store_explicit(&resync->sent_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&resync->running, true, memory_order_relaxed);
}

/* The message of a run that is over. False: it is being sent. */
static bool message_drop(kv_resync *resync)
{
    kv_peer *peer = resync->chain->peers[resync->loop - resync->chain->node->loops];

    if (!resync->asked)
        return true;
    if (resync->dropping)
        return false;
    resync->dropping = true;
    if (resync->message.state != KV_PEER_IDLE && !kv_peer_drop(peer, &resync->message))
        return false;
    resync->asked = resync->dropping = false;
    return true;
}

/* Where the chain is now: 0 if no successor syncs. `quiet`: every update can be forwarded. */
static uint64_t version_wanted(kv_chain *chain, bool *quiet)
{
    const kv_replica_view *view;
    uint64_t version;

    pthread_mutex_lock(&chain->mutex);
    view = kv_replica_view_of(chain->replica);
    version = view->serves && view->has_successor && view->successor_syncs ? view->chain_version
                                                                           : 0;
    *quiet = chain->unretained_count == 0;
    pthread_mutex_unlock(&chain->mutex);
    return version;
}

static void work(kv_resync *resync)
{
    bool quiet;
    uint64_t version = version_wanted(resync->chain, &quiet);
    bool stale = version != resync->version || resync->failed;

    if (version == 0 || resync->loop->stopping) {
        resync->version = 0;
        if (message_drop(resync))
            kv_resync_rest(resync);
        return;
    }
    if (stale && (!message_drop(resync) || resync->batch_count > 0))
        return; /* its end comes back here */
    if (version == resync->version && resync->failed && !rate_allows(resync))
        return;
    if (stale)
        begin_anew(resync, version);
    if (resync->stage == KV_RESYNC_QUIET && quiet) {
        resync->page = resync->page ? resync->page : malloc(KV_NODE_RESYNC_PAGE_SIZE);
        if (resync->page && kv_resync_digest_begin(resync))
            stage_begin(resync, KV_RESYNC_DIGEST);
        else
            kv_resync_pause(resync);
    }
    resync->pages = 0;
    kept_send(resync);
    while (!resync->asked && resync->stage >= KV_RESYNC_DIGEST && go_on(resync))
        ;
    if (resync->kept_count > 0 && !kv_timer_is_set(&resync->timer))
        pause_for(resync, resync->kept_due_ns);
}

void kv_resync_look(kv_resync *resync)
{
    if (resync->working)
        return; /* it looks itself, when it has done what it is at */
    resync->working = true;
    work(resync);
    resync->working = false;
}
