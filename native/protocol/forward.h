/* The columns of FORWARD and FORWARDED: an update on its way down a chain, and what became of it.
 *
 * Laid out in forward.c byte by byte. FORWARD: a head; columns over all items of the update: version (u64); for SET, and 0 otherwise: expiry (u64, unix ms), value size (u32),
 * checksum (u32), flags (u32); key size (u16); status (u8; what was refused up the chain is not applied, and has no value); stored keys end to end. A SET's values of the items with
 * status KV_OK follow. FORWARDED: a head, and a status (u8) for each item.
 *
 * Guarantees: as request.h: what decodes is consistent to the byte, within limits, and nothing was allocated. */
#ifndef KV_FORWARD_H
#define KV_FORWARD_H

#include "protocol/hello.h"

#include <stdbool.h>

#define KV_STORED_KEY_SIZE_MAX 1152u /* tenant and namespace with their sizes, and the key */

typedef enum kv_forward_kind {
    KV_FORWARD_UPDATE = 1,  /* what a client asked for */
    KV_FORWARD_SYNC = 2,    /* what the predecessor holds: SET replaces whatever is there, DELETE removes it */
    KV_FORWARD_COMPARE = 3, /* keys and versions of the predecessor: each gets KV_OK (same version), KV_NOT_FOUND, or KV_EXISTS (another one) */
    KV_FORWARD_SYNCED = 4,  /* no items: the successor lacks nothing any more */
    KV_FORWARD_MOVE = 5,    /* as SYNC, from another chain whose slots move here: to the head, and down this chain */
    KV_FORWARD_SPACE = 6    /* no items: what is free and what is lacking, as every answer says */
} kv_forward_kind;

#define KV_FORWARD_CAREFUL 1u /* flags of UPDATE, SYNC and MOVE: may be refused for want of space */
#define KV_FORWARD_EVICTS 2u  /* of UPDATE, DELETE: the head makes room, in the name of no client */

typedef struct kv_wire_forward {
    uint32_t forward;       /* kv_forward_kind */
    uint32_t operation;     /* UPDATE: SET, DELETE, PIN, UNPIN; SYNC, MOVE: SET, DELETE; else 0 */
    uint32_t target;        /* successor */
    uint32_t flags;
    uint32_t attempt;       /* UPDATE, SYNC and MOVE: see replica.h */
    uint64_t chain_version;
    uint64_t ttl_ms;        /* UPDATE, SET: of the request, for the record; expiry is by item */
    uint8_t client[KV_CLIENT_ID_SIZE]; /* zeros: of no client (SYNC, MOVE, evictions); channel and sequence are 0 then */
    uint32_t channel;
    uint64_t sequence;
    uint32_t count;
    uint32_t keys_size;
    const uint8_t *statuses; /* into the columns */
    const uint8_t *value_sizes;
    const uint8_t *checksums;
    const uint8_t *expiries;
    const uint8_t *item_flags; /* KV_ITEM_PINNED, SYNC and MOVE only */
    const uint8_t *versions;
    const uint8_t *key_sizes;
    const uint8_t *keys;
} kv_wire_forward;

/* One item, to encode and as decoded. */
typedef struct kv_forward_item {
    const uint8_t *key;
    uint32_t key_size;
    uint32_t value_size; /* 0 where the operation has none, or status is not KV_OK */
    uint32_t checksum;
    uint32_t flags;
    uint64_t expiry_ms;
    uint64_t version;
    uint8_t status;
} kv_forward_item;

typedef struct kv_wire_forwarded {
    int32_t status;         /* KV_OK: the statuses say it; KV_WRONG_TARGET, KV_BUSY, KV_UNAVAILABLE: nothing was done, and there are no statuses */
    uint32_t count;
    uint64_t chain_version; /* that the target goes by */
    uint64_t space_free;    /* of it and those after it: the least */
    uint64_t space_wanted;  /* cache mode: what one of them lacks most, for the head to evict */
    uint64_t objects_wanted; /* the same for places among the objects */
    const uint8_t *statuses; /* into the columns */
} kv_wire_forwarded;

/* Of any kind and operation; UINT32_MAX when it exceeds the limit. */
uint32_t kv_forward_columns_size(uint32_t count, uint64_t keys_size);
/* Write head and columns, sealed; `item(context, i, out)` gives each item in order. Fields that the kind, the operation or the item's status does not have are
 * written as 0, whatever is said; a client's sequence is not 0. Returns bytes written. */
typedef void kv_forward_item_of(void *context, uint32_t i, kv_forward_item *item);
uint32_t kv_forward_encode(const kv_wire_forward *forward, kv_forward_item_of *item, void *context, uint8_t *columns);
/* The CRC has been verified. -EBADMSG: inconsistent. -EMSGSIZE: a key or value size beyond the limit. -EOPNOTSUPP: unknown kind or operation. `message`
 * (KV_MESSAGE_SIZE, may be NULL) says which. */
int kv_forward_decode(const kv_message_head *head, const uint8_t *columns, kv_wire_forward *forward, char *message);
/* `key_offset`: the sizes of all keys before it; 0 for the first. */
void kv_forward_item_at(const kv_wire_forward *forward, uint32_t i, uint32_t key_offset, kv_forward_item *item);

uint32_t kv_forwarded_columns_size(uint32_t count);
uint32_t kv_forwarded_encode(const kv_wire_forwarded *forwarded, uint8_t *columns);
/* The reply to a forward of `count` items. -EBADMSG. */
int kv_forwarded_decode(const kv_message_head *head, const uint8_t *columns, uint32_t count, kv_wire_forwarded *forwarded);

#endif
