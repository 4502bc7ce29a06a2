/* The columns of a reply: what became of some items of a request. A request is answered by one or several replies in any
 * order, each item in exactly one of them; the last one says so (KV_REPLY_LAST), also when it carries no item.
 *
 * Laid out in reply.c byte by byte: a head, then columns over the items it carries: index in the request (u32), status (u8), and by operation:
 * GET and STAT: size (u32) and checksum (u32); STAT: version (u64), expiry (u64), flags (u32). They say something for KV_OK and are 0 otherwise, but for
 * the size with KV_BUFFER_TOO_SMALL, which is the room that is needed.
 * GET: the values of the items with status KV_OK follow as values, in the order of the items. */
#ifndef KV_REPLY_H
#define KV_REPLY_H

#include "protocol/message.h"

#include <stdbool.h>

#define KV_REPLY_LAST 1u /* kv_message_head.flags */

typedef struct kv_wire_reply {
    uint32_t operation;
    int32_t status;         /* KV_OK, or with KV_REPLY_LAST: what every item that no reply carries comes to */
    uint32_t matched;       /* MATCH_PREFIX, with KV_REPLY_LAST */
    uint32_t count;
    const uint8_t *indices; /* into the columns; NULL where the operation has none: see kv_reply_item_at */
    const uint8_t *statuses;
    const uint8_t *sizes;
    const uint8_t *checksums;
    const uint8_t *versions;
    const uint8_t *expiries;
    const uint8_t *flags;
} kv_wire_reply;

/* One item as the node says it. */
typedef struct kv_reply_item {
    uint32_t index;
    int32_t status;
    uint32_t size;
    uint32_t checksum;
    uint64_t version;
    uint64_t expiry_ms;
    uint32_t flags;
} kv_reply_item;

uint32_t kv_reply_columns_size(uint32_t operation, uint32_t count);
/* Write head and columns, sealed; returns bytes written. `reply` gives the scalar fields. Fields that an item's operation or status does not have are
 * written as 0, whatever the item says. */
uint32_t kv_reply_encode(const kv_wire_reply *reply, const kv_reply_item *items, uint8_t *columns);
/* The CRC has been verified. -EBADMSG: inconsistent: sizes, an index at or beyond `request_count`, values that do not add up, an unknown status. */
int kv_reply_decode(const kv_message_head *head, const uint8_t *columns, uint32_t request_count, kv_wire_reply *reply);
void kv_reply_item_at(const kv_wire_reply *reply, uint32_t position, kv_reply_item *item);

#endif
