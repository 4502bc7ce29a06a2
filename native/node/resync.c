/* See resync.h. Own objects and the successor's are gone through page by page; a page is compared
 * a part at a time, and what the successor lacks of it leaves in batches before the next part. */

#include "node/resync.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_S 1000000000ull
#define LIST_BODY_SIZE 12u /* cursor and size */
#define CURSOR_SIZE 8u
#define LIST_SIZE (KV_NODE_RESYNC_PAGE_SIZE - 64u) /* a reply may be a little larger */
#define ENTRY_AT_FLAGS 2u
#define ENTRY_AT_SIZE 4u
#define ENTRY_AT_VERSION 12u

typedef enum stage {
    STAGE_REST = 0,
    STAGE_QUIET = 1,
    STAGE_COMPARE = 2,
    STAGE_REMOVE = 3,
    STAGE_TELL = 4
} stage;

struct kv_resync {
    kv_chain *chain;
    kv_loop *loop;
    kv_timer timer;
    kv_peer_message message; /* COMPARE, a list of the successor's, or SYNCED */
    stage stage;
    uint64_t version;        /* of the chain, that this run goes by, or went by to its end */
    uint64_t cursor;         /* of the next page */
    uint8_t *page;           /* while it runs */
    uint32_t page_size;
    uint32_t page_at;        /* entries before it were dealt with */
    uint32_t list_filled;    /* bytes of the successor's list that came */
    const uint8_t *parts[KV_NODE_RESYNC_COMPARE_COUNT]; /* entries that are, or were, compared */
    uint32_t part_count;
    const uint8_t *wanted[KV_NODE_RESYNC_COMPARE_COUNT]; /* entries to be sent, or removed */
    uint32_t wanted_count;
    uint32_t wanted_at;
    uint32_t batch_count;    /* under way */
    uint64_t due_ns;         /* nothing leaves before: the rate */
    bool asked;              /* the message is under way */
    bool dropping;           /* ... and nobody wants it any more */
    bool failed;             /* something did not get there: begin anew */
    bool working;
    atomic_bool running;
    _Atomic uint64_t compared;
    _Atomic uint64_t sent;
    _Atomic uint64_t sent_bytes;
};

static void work(kv_resync *resync);

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

void kv_resync_close(kv_resync *resync)
{
    assert(resync->batch_count == 0);
    free(resync->page);
    free(resync);
}

void kv_resync_state(kv_resync *resync, kv_chain_state *state)
{
    /* Relaxed: figures for people. */
    state->resyncing = atomic_load_explicit(&resync->running, memory_order_relaxed);
    state->resync_compared = atomic_load_explicit(&resync->compared, memory_order_relaxed);
    state->resync_sent = atomic_load_explicit(&resync->sent, memory_order_relaxed);
    state->resync_sent_bytes = atomic_load_explicit(&resync->sent_bytes, memory_order_relaxed);
}

static void pause_for(kv_resync *resync, uint64_t due_ns)
{
    kv_timer_set(resync->loop->reactor, &resync->timer, due_ns);
}

static void pause_short(kv_resync *resync)
{
    pause_for(resync, kv_clock_ns() + KV_NODE_RESYNC_PAUSE_MS * 1000000ull);
}

/* ---- entries ---- */

static uint32_t entry_size(const uint8_t *entry)
{
    return KV_STORED_ENTRY_SIZE + kv_endian_load_u16(entry);
}

static uint64_t entry_value_size(const uint8_t *entry)
{
    return kv_endian_load_u32(entry + ENTRY_AT_SIZE);
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

/* ---- messages ---- */

static void message_send(kv_resync *resync, const kv_peer_sender *sender, uint32_t kind,
                         uint32_t count)
{
    kv_peer *peer = kv_chain_peer(resync->chain, resync->loop);

    assert(!resync->asked && resync->message.state == KV_PEER_IDLE);
    if (!peer) {
        pause_short(resync);
        return;
    }
    resync->asked = true;
    resync->message.sender = sender;
    resync->message.kind = kind;
    resync->message.count = count;
    kv_peer_send(peer, &resync->message);
}

static void message_freed(kv_peer_message *message)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);

    resync->asked = resync->dropping = false;
    kv_resync_look(resync);
}

static void forward_head(kv_resync *resync, uint32_t kind, kv_wire_forward *wire)
{
    kv_peer_aim aim = kv_chain_aim(resync->chain);

    *wire = (kv_wire_forward){.forward = kind,
                              .target = aim.target,
                              .chain_version = resync->version,
                              .count = kind == KV_FORWARD_COMPARE ? resync->part_count : 0};
}

/* What the answer says, or that the question is to be put again. True: it was answered. */
static bool answer_take(kv_resync *resync, const kv_message_head *head, const uint8_t *columns,
                        kv_wire_forwarded *answer, int *error)
{
    kv_peer *peer = resync->chain->peers[resync->loop - resync->chain->node->loops];

    *error = kv_forwarded_decode(head, columns, resync->message.count, answer);
    if (*error < 0)
        return false;
    resync->asked = false;
    if (answer->status == KV_OK) {
        kv_peer_resume(peer);
        return true;
    }
    kv_peer_pause(peer);
    pause_short(resync);
    return false;
}

static uint32_t compare_columns_size(kv_peer_message *message)
{
    const kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    uint64_t keys_size = 0;

    for (uint32_t i = 0; i < resync->part_count; i++)
        keys_size += kv_endian_load_u16(resync->parts[i]);
    return kv_forward_columns_size(resync->part_count, keys_size);
}

static void compare_item(void *context, uint32_t i, kv_forward_item *item)
{
    const kv_resync *resync = context;
    const uint8_t *entry = resync->parts[i];

    *item = (kv_forward_item){.key = entry + KV_STORED_ENTRY_SIZE,
                              .key_size = kv_endian_load_u16(entry),
                              .version = kv_endian_load_u64(entry + ENTRY_AT_VERSION)};
}

static uint32_t compare_encode(kv_peer_message *message, kv_message_head *head, uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    kv_wire_forward wire;

    forward_head(resync, KV_FORWARD_COMPARE, &wire);
    head->count = wire.count;
    return kv_forward_encode(&wire, compare_item, resync, columns);
}

/* What is pinned is sent anyway: a pin has no version that would tell that it differs. */
static int compare_answered(kv_peer_message *message, const kv_message_head *head,
                            const uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    kv_wire_forwarded answer;
    int error;

    if (answer_take(resync, head, columns, &answer, &error)) {
        for (uint32_t i = 0; i < resync->part_count; i++) {
            uint32_t flags = kv_endian_load_u16(resync->parts[i] + ENTRY_AT_FLAGS);

            if (answer.statuses[i] != KV_OK || (flags & KV_ITEM_PINNED))
                resync->wanted[resync->wanted_count++] = resync->parts[i];
        }
        atomic_fetch_add_explicit(&resync->compared, resync->part_count, memory_order_relaxed);
        resync->part_count = 0;
        kv_resync_look(resync);
    }
    return error;
}

static const kv_peer_sender compare_sender = {.columns_size = compare_columns_size,
                                              .encode = compare_encode,
                                              .answered = compare_answered,
                                              .freed = message_freed};

static uint32_t list_columns_size(kv_peer_message *message)
{
    (void)message;
    return KV_MESSAGE_CRC_SIZE + LIST_BODY_SIZE;
}

static uint32_t list_encode(kv_peer_message *message, kv_message_head *head, uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);

    resync->list_filled = 0;
    head->flags = KV_CONTROL_LIST_STORED;
    head->count = kv_chain_aim(resync->chain).target;
    kv_endian_store_u64(columns + KV_MESSAGE_CRC_SIZE, resync->cursor);
    kv_endian_store_u32(columns + KV_MESSAGE_CRC_SIZE + 8, LIST_SIZE);
    kv_message_seal(columns, KV_MESSAGE_CRC_SIZE + LIST_BODY_SIZE);
    return KV_MESSAGE_CRC_SIZE + LIST_BODY_SIZE;
}

/* More than was asked for is no list: what is beyond the page is passed over, and told by its
 * size. */
static void list_body(kv_peer_message *message, const uint8_t *bytes, uint32_t size)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    uint32_t room = KV_NODE_RESYNC_PAGE_SIZE > resync->list_filled
                        ? KV_NODE_RESYNC_PAGE_SIZE - resync->list_filled
                        : 0;

    memcpy(resync->page + resync->list_filled, bytes, size < room ? size : room);
    resync->list_filled += size < room ? size : room;
}

static int list_answered(kv_peer_message *message, const kv_message_head *head,
                         const uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);

    (void)columns;
    if (head->count == 0 &&
        (resync->list_filled < CURSOR_SIZE || head->values_size != resync->list_filled))
        return -EBADMSG;
    resync->asked = false;
    if (head->count != 0) {
        pause_short(resync);
        return 0;
    }
    resync->cursor = kv_endian_load_u64(resync->page);
    resync->page_at = CURSOR_SIZE;
    resync->page_size = resync->list_filled;
    kv_resync_look(resync);
    return 0;
}

static const kv_peer_sender list_sender = {.columns_size = list_columns_size,
                                           .encode = list_encode,
                                           .answered = list_answered,
                                           .body = list_body,
                                           .freed = message_freed};

static uint32_t tell_columns_size(kv_peer_message *message)
{
    (void)message;
    return kv_forward_columns_size(0, 0);
}

static uint32_t tell_encode(kv_peer_message *message, kv_message_head *head, uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    kv_wire_forward wire;

    (void)head;
    forward_head(resync, KV_FORWARD_SYNCED, &wire);
    return kv_forward_encode(&wire, compare_item, resync, columns);
}

static void rest(kv_resync *resync)
{
    resync->stage = STAGE_REST;
    free(resync->page);
    resync->page = NULL;
    if (kv_timer_is_set(&resync->timer))
        kv_timer_stop(resync->loop->reactor, &resync->timer);
    atomic_store_explicit(&resync->running, false, memory_order_relaxed);
}

static int tell_answered(kv_peer_message *message, const kv_message_head *head,
                         const uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    kv_wire_forwarded answer;
    int error;

    if (answer_take(resync, head, columns, &answer, &error))
        rest(resync); /* `version` says that nothing is left to be done */
    return error;
}

static const kv_peer_sender tell_sender = {.columns_size = tell_columns_size,
                                           .encode = tell_encode,
                                           .answered = tell_answered,
                                           .freed = message_freed};

/* ---- batches ---- */

void kv_resync_batch_ended(kv_resync *resync, uint32_t count, uint64_t size, bool done)
{
    assert(resync->batch_count > 0);
    resync->batch_count--;
    if (!done && !resync->failed) {
        resync->failed = true;
        resync->due_ns = kv_clock_ns() + KV_NODE_RESYNC_FAILED_MS * 1000000ull;
    }
    if (done) {
        atomic_fetch_add_explicit(&resync->sent, count, memory_order_relaxed);
        atomic_fetch_add_explicit(&resync->sent_bytes, size, memory_order_relaxed);
    }
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

/* How many of the entries that are wanted go together, and the bytes of their values. */
static uint32_t batch_measure(const kv_resync *resync, uint64_t *size)
{
    uint32_t left = resync->wanted_count - resync->wanted_at;
    uint32_t count = 0;

    *size = 0;
    while (count < left && count < KV_NODE_RESYNC_BATCH_COUNT) {
        uint64_t next = resync->stage == STAGE_COMPARE
                            ? entry_value_size(resync->wanted[resync->wanted_at + count])
                            : 0;

        if (count > 0 && *size + next > KV_NODE_RESYNC_BATCH_SIZE)
            break;
        *size += next;
        count++;
    }
    return count;
}

/* False: not now. */
static bool batch_send(kv_resync *resync)
{
    uint32_t operation = resync->stage == STAGE_COMPARE ? KV_OP_SET : KV_OP_DELETE;
    kv_sync_batch *batch;
    uint64_t size;
    uint32_t count;

    if (resync->batch_count == KV_NODE_RESYNC_IN_FLIGHT || !rate_allows(resync))
        return false;
    count = batch_measure(resync, &size);
    batch = kv_sync_open(resync, resync->chain, resync->loop, operation,
                         resync->wanted + resync->wanted_at, count);
    if (!batch) {
        pause_short(resync);
        return false;
    }
    resync->wanted_at += count;
    resync->batch_count++;
    rate_note(resync, size);
    kv_sync_begin(batch);
    return true;
}

/* ---- stages ---- */

static void stage_begin(kv_resync *resync, stage next)
{
    resync->stage = next;
    resync->cursor = 0;
    resync->page_size = resync->page_at = 0;
    resync->part_count = resync->wanted_count = resync->wanted_at = 0;
}

/* A part of the page is compared, or the next page taken. False: wait. */
static bool compare_more(kv_resync *resync)
{
    const uint8_t *entry;
    int64_t size;

    while (resync->part_count < KV_NODE_RESYNC_COMPARE_COUNT && (entry = entry_next(resync)))
        resync->parts[resync->part_count++] = entry;
    if (resync->part_count > 0) {
        message_send(resync, &compare_sender, KV_MESSAGE_FORWARD, resync->part_count);
        return false;
    }
    if (resync->cursor == UINT64_MAX) {
        stage_begin(resync, STAGE_REMOVE);
        return true;
    }
    size = kv_engine_list_stored(resync->chain->target->engine, &resync->cursor, resync->page,
                                 KV_NODE_RESYNC_PAGE_SIZE);
    assert(size >= 0); /* a page holds any entry */
    resync->page_size = (uint32_t)size;
    resync->page_at = 0;
    return true;
}

/* What the successor has and this target has not. False: wait. */
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
        stage_begin(resync, STAGE_TELL);
    else
        message_send(resync, &list_sender, KV_MESSAGE_CONTROL, 0);
    return resync->stage == STAGE_TELL;
}

/* What is wanted leaves first: it lies in the page. False: wait. */
static bool go_on(kv_resync *resync)
{
    if (resync->wanted_at < resync->wanted_count)
        return batch_send(resync);
    resync->wanted_count = resync->wanted_at = 0;
    switch (resync->stage) {
    case STAGE_COMPARE:
        return compare_more(resync);
    case STAGE_REMOVE:
        return remove_more(resync);
    case STAGE_TELL:
        if (resync->batch_count == 0 && !resync->failed)
            message_send(resync, &tell_sender, KV_MESSAGE_FORWARD, 0);
        return false;
    default:
        return false;
    }
}

static void begin_anew(kv_resync *resync, uint64_t version)
{
    resync->version = version;
    resync->failed = false;
    stage_begin(resync, STAGE_QUIET);
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
            rest(resync);
        return;
    }
    if (stale && (!message_drop(resync) || resync->batch_count > 0))
        return; /* its end comes back here */
    if (version == resync->version && resync->failed && !rate_allows(resync))
        return;
    if (stale)
        begin_anew(resync, version);
    if (resync->stage == STAGE_QUIET && quiet) {
        resync->page = resync->page ? resync->page : malloc(KV_NODE_RESYNC_PAGE_SIZE);
        if (resync->page)
            stage_begin(resync, STAGE_COMPARE);
        else
            pause_short(resync);
    }
    while (!resync->asked && resync->stage >= STAGE_COMPARE && go_on(resync))
        ;
}

void kv_resync_look(kv_resync *resync)
{
    if (resync->working)
        return; /* it looks itself, when it has done what it is at */
    resync->working = true;
    work(resync);
    resync->working = false;
}
