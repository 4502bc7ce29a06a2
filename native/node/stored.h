/* What a target holds, told to other nodes: a list of its objects, of some parts of the keys if
 * that is wanted, and a digest of all of them. By the thread of controls, for a bounded time each:
 * whoever asks goes on where the cursor says. */
#ifndef KV_STORED_H
#define KV_STORED_H

#include "engine/engine.h"
#include "node/digest.h"

/* Bodies: u64 cursor, u32 size, and for some parts only u64 seed, u32 bits, and the set of them;
 * u64 cursor, u64 seed, u32 bits. */
#define KV_STORED_LIST_SIZE 12u
#define KV_STORED_FILTER_SIZE 12u
#define KV_STORED_DIGEST_SIZE 20u

/* Whether a control is one that came with KV_PROTOCOL_VERSION_DIGEST. */
static inline bool kv_stored_by_parts(uint32_t control, uint32_t body_size)
{
    return control == KV_CONTROL_DIGEST ||
           (control == KV_CONTROL_LIST_STORED && body_size > KV_STORED_LIST_SIZE);
}

/* Room for the reply; 0: it is no such body. */
uint32_t kv_stored_digest_room(const uint8_t *body, uint32_t body_size);
/* `room` bytes for the reply: u64 cursor, entries as of kv_engine_list_stored. Returns its size;
 * -EINVAL: the body is none; -ENOBUFS: an entry does not fit. */
int64_t kv_stored_list(kv_engine *engine, const uint8_t *body, uint32_t body_size, uint8_t *reply,
                       uint32_t room);
/* Reply: u64 cursor, and for each part the sum over what was met, from the cursor on, as u64.
 * -ENOMEM. */
int64_t kv_stored_digest(kv_engine *engine, const uint8_t *body, uint8_t *reply, uint32_t room);

#endif
