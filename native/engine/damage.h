/* Objects whose stored values could not be read, or did not match their checksums: remembered until
 * they are replaced by the same bytes from another copy, or change otherwise. A short list: what
 * does not fit is found again by the next read of it, or the next scrub. All locked. */
#ifndef KV_DAMAGE_H
#define KV_DAMAGE_H

#include "engine/format.h"
#include "engine/object.h"

#define KV_DAMAGE_COUNT_MAX 64u

typedef struct kv_damaged {
    uint64_t sequence; /* of the object: another one of the same key is not damaged */
    uint32_t key_size;
    uint8_t key[KV_KEY_SIZE_MAX];
} kv_damaged;

typedef struct kv_damage {
    uint32_t count;
    kv_damaged objects[KV_DAMAGE_COUNT_MAX];
} kv_damage;

/* A dead object is passed over: nobody reads it any more. */
void kv_damage_note(kv_damage *damage, const kv_object *object);
/* Whatever is there of this key is not damaged any more. */
void kv_damage_forget(kv_damage *damage, const void *key, uint32_t key_size);

#endif
