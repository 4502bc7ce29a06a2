/* What resync asks the successor, and tells it: versions to compare, a page of what it holds, and
 * that it lacks nothing any more. See resync.h. */

#include "node/resync_state.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LIST_BODY_SIZE 12u /* cursor and size */
#define CURSOR_SIZE 8u
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
        kv_resync_pause(resync);
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

void kv_resync_list(kv_resync *resync)
{
    message_send(resync, &list_sender, KV_MESSAGE_CONTROL, 0);
}

void kv_resync_tell(kv_resync *resync)
{
    message_send(resync, &tell_sender, KV_MESSAGE_FORWARD, 0);
}
