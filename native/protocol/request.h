/* The columns of a request: one batch of one operation for one target.
 *
 * Laid out in request.c byte by byte: a head, then columns over all items: value sizes (u32; SET: bytes that
 * follow as values, GET: room), checksums (u32; SET), key sizes (u16), and the keys end to end.
 *
 * Guarantees: what decodes is consistent to the byte: sizes add up, keys and values are within the
 * limits, and nothing was allocated. Leaves to others: rights, routing, and what it means. */
#ifndef KV_REQUEST_H
#define KV_REQUEST_H

#include "protocol/message.h"

#include <stdbool.h>

typedef struct kv_wire_request {
    uint32_t operation;     /* kv_operation_kind: SET ... UNPIN */
    uint32_t target;
    uint64_t chain_version; /* of the routing info that the client went by; 0: any */
    uint64_t ttl_ms;
    uint32_t timeout_ms;    /* from arrival on */
    uint32_t if_absent;
    uint32_t repeated;      /* an update that was sent before: see channel.h */
    uint32_t channel;       /* updates: of this client (hello); exactly-once */
    uint64_t sequence;      /* updates: grows by one with each update of the channel, from 1 */
    uint32_t count;
    uint32_t keys_size;
    const uint8_t *key_sizes;   /* into the columns; NULL where the operation has none */
    const uint8_t *value_sizes;
    const uint8_t *checksums;
    const uint8_t *keys;
} kv_wire_request;

/* Whether the operation changes something and so goes by an update channel: SET, DELETE, PIN, UNPIN. */
bool kv_request_updates(uint32_t operation);
/* Bytes of columns for so many items; UINT32_MAX when it exceeds the limit. */
uint32_t kv_request_columns_size(uint32_t operation, uint32_t count, uint64_t keys_size);
/* Write head and columns of items[indices[0 ... count)] into `columns`, sealed. `checksums` (by position in indices) for SET, else NULL. `request` gives
 * the scalar fields; those that the operation does not have are written as 0. The room of a GET is cut to KV_VALUE_SIZE_LIMIT. Sizes of keys, and of
 * values to set, are within the limits. Returns bytes written. */
uint32_t kv_request_encode(const kv_wire_request *request, const kv_item *items, const uint32_t *indices,
                           const uint32_t *checksums, uint8_t *columns);
/* The CRC has been verified. -EBADMSG: inconsistent. -EMSGSIZE: a key or value size beyond the limit. -EOPNOTSUPP: unknown operation.
 * `message` (KV_MESSAGE_SIZE, may be NULL) says which. */
int kv_request_decode(const kv_message_head *head, const uint8_t *columns, kv_wire_request *request, char *message);

#endif
