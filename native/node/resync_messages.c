/* What resync asks the successor, and tells it: a digest of what it holds, versions to compare, a
 * page of what it holds, and that it lacks nothing any more. See resync.h. */

#include "node/resync_state.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LIST_SIZE (KV_NODE_RESYNC_PAGE_SIZE - 64u) /* a reply may be a little larger */

static void message_send(kv_resync *resync, const kv_peer_sender *sender, uint32_t kind,
                         uint32_t count)
{
    kv_peer *peer = kv_chain_peer(resync->chain, resync->loop, false);

    assert(!resync->asked && resync->message.state == KV_PEER_IDLE);
    if (!peer) {
        kv_resync_pause(resync);
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
    resync->target = kv_chain_aim(resync->chain).target;
    *wire = (kv_wire_forward){.forward = kind,
                              .target = resync->target,
                              .chain_version = resync->version,
                              .count = kind == KV_FORWARD_COMPARE ? resync->part_count : 0};
}

/* What the answer says, or that the question is to be put again. True: it was answered. */
static bool answer_take(kv_resync *resync, const kv_message_head *head, const uint8_t *columns,
                        kv_wire_forwarded *answer, int *error)
{
    kv_peer *peer = *kv_chain_peer_place(resync->chain, resync->loop, false);

    *error = kv_forwarded_decode(head, columns, resync->message.count, answer);
    if (*error < 0)
        return false;
    resync->asked = false;
    if (answer->status == KV_OK) {
        kv_peer_resume(peer);
        kv_chain_hear(resync->chain, resync->target, answer);
        return true;
    }
    kv_peer_pause(peer);
    kv_resync_pause(resync);
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
                              .version = kv_endian_load_u64(entry + KV_ENTRY_AT_VERSION)};
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
            uint32_t flags = kv_endian_load_u16(resync->parts[i] + KV_ENTRY_AT_FLAGS);

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

/* ---- digests ---- */

static uint32_t digest_columns_size(kv_peer_message *message)
{
    (void)message;
    return KV_MESSAGE_CRC_SIZE + KV_STORED_DIGEST_SIZE;
}

static uint32_t digest_encode(kv_peer_message *message, kv_message_head *head, uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    uint8_t *body = columns + KV_MESSAGE_CRC_SIZE;

    resync->body_filled = 0;
    head->flags = KV_CONTROL_DIGEST;
    head->count = kv_chain_aim(resync->chain).target;
    kv_endian_store_u64(body, resync->cursor);
    kv_endian_store_u64(body + 8, resync->digest.cut.seed);
    kv_endian_store_u32(body + 16, resync->digest.cut.bits);
    kv_message_seal(columns, digest_columns_size(message));
    return digest_columns_size(message);
}

/* More than was asked for is no reply: what is beyond it is passed over, and told by its size. */
static void body_take(kv_resync *resync, uint8_t *to, uint32_t size_max, const uint8_t *bytes,
                      uint32_t size)
{
    uint32_t room = size_max > resync->body_filled ? size_max - resync->body_filled : 0;

    memcpy(to + (room > 0 ? resync->body_filled : 0), bytes, size < room ? size : room);
    resync->body_filled += size < room ? size : room;
}

static void digest_body(kv_peer_message *message, const uint8_t *bytes, uint32_t size)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);

    body_take(resync, resync->digest.reply, resync->digest.reply_size, bytes, size);
}

/* Whether a reply came, of this size at least; otherwise the question is put again, or `error`. */
static bool body_came(kv_resync *resync, const kv_message_head *head, uint32_t size_min, int *error)
{
    bool whole = resync->body_filled >= size_min && head->values_size == resync->body_filled;

    *error = head->count == 0 && !whole ? -EBADMSG : 0;
    if (*error < 0)
        return false;
    resync->asked = false;
    if (head->count != 0)
        kv_resync_pause(resync);
    return head->count == 0;
}

static int digest_answered(kv_peer_message *message, const kv_message_head *head,
                           const uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    int error;

    (void)columns;
    if (body_came(resync, head, resync->digest.reply_size, &error)) {
        resync->cursor = kv_endian_load_u64(resync->digest.reply);
        kv_resync_digest_take(resync);
        kv_resync_look(resync);
    }
    return error;
}

/* Then each key is named. */
static void digest_unspoken(kv_peer_message *message)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);

    resync->asked = false;
    kv_resync_digest_forgo(resync);
    resync->cursor = UINT64_MAX;
    kv_resync_look(resync);
}

static const kv_peer_sender digest_sender = {.columns_size = digest_columns_size,
                                             .encode = digest_encode,
                                             .answered = digest_answered,
                                             .body = digest_body,
                                             .version_min = KV_PROTOCOL_VERSION_DIGEST,
                                             .unspoken = digest_unspoken,
                                             .freed = message_freed};

/* ---- lists ---- */

static uint32_t list_columns_size(kv_peer_message *message)
{
    const kv_resync *resync = KV_CONTAINER(message, kv_resync, message);

    return KV_MESSAGE_CRC_SIZE + KV_STORED_LIST_SIZE + KV_STORED_FILTER_SIZE +
           kv_digest_parts(&resync->digest.cut) / 8;
}

/* The parts that differ. */
static void filter_store(const kv_resync_digest *digest, uint8_t *body)
{
    kv_endian_store_u64(body, digest->cut.seed);
    kv_endian_store_u32(body + 8, digest->cut.bits);
    memcpy(body + KV_STORED_FILTER_SIZE, digest->differing, kv_digest_parts(&digest->cut) / 8);
}

static uint32_t list_encode(kv_peer_message *message, kv_message_head *head, uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    uint32_t size = KV_MESSAGE_CRC_SIZE + KV_STORED_LIST_SIZE;
    uint8_t *body = columns + KV_MESSAGE_CRC_SIZE;

    resync->body_filled = 0;
    head->flags = KV_CONTROL_LIST_STORED;
    head->count = kv_chain_aim(resync->chain).target;
    kv_endian_store_u64(body, resync->cursor);
    kv_endian_store_u32(body + 8, LIST_SIZE);
    if (head->version >= KV_PROTOCOL_VERSION_DIGEST) { /* before it all are listed */
        filter_store(&resync->digest, body + KV_STORED_LIST_SIZE);
        size = list_columns_size(message);
    }
    kv_message_seal(columns, size);
    return size;
}

static void list_body(kv_peer_message *message, const uint8_t *bytes, uint32_t size)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);

    body_take(resync, resync->page, KV_NODE_RESYNC_PAGE_SIZE, bytes, size);
}

static int list_answered(kv_peer_message *message, const kv_message_head *head,
                         const uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    int error;

    (void)columns;
    if (body_came(resync, head, KV_RESYNC_CURSOR_SIZE, &error)) {
        resync->cursor = kv_endian_load_u64(resync->page);
        resync->page_at = KV_RESYNC_CURSOR_SIZE;
        resync->page_size = resync->body_filled;
        kv_resync_look(resync);
    }
    return error;
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

static int tell_answered(kv_peer_message *message, const kv_message_head *head,
                         const uint8_t *columns)
{
    kv_resync *resync = KV_CONTAINER(message, kv_resync, message);
    kv_wire_forwarded answer;
    int error;

    if (answer_take(resync, head, columns, &answer, &error))
        kv_resync_rest(resync); /* `version` says that nothing is left to be done */
    return error;
}

static const kv_peer_sender tell_sender = {.columns_size = tell_columns_size,
                                           .encode = tell_encode,
                                           .answered = tell_answered,
                                           .freed = message_freed};

void kv_resync_compare(kv_resync *resync)
{
    message_send(resync, &compare_sender, KV_MESSAGE_FORWARD, resync->part_count);
}

void kv_resync_ask(kv_resync *resync)
{
    message_send(resync, &digest_sender, KV_MESSAGE_CONTROL, 0);
}

void kv_resync_list(kv_resync *resync)
{
    message_send(resync, &list_sender, KV_MESSAGE_CONTROL, 0);
}

void kv_resync_tell(kv_resync *resync)
{
    message_send(resync, &tell_sender, KV_MESSAGE_FORWARD, 0);
}
