/* Where a key is: the slot is the leading bits of a 128-bit hash of tenant, namespace and key. The hash is part of the protocol: it is
 * the same on every machine and in every release. */
#ifndef KV_PLACEMENT_H
#define KV_PLACEMENT_H

#include <stddef.h>
#include <stdint.h>

#define KV_SLOT_COUNT_MAX 65536u

typedef struct kv_placement_hash {
    uint64_t high;
    uint64_t low;
} kv_placement_hash;

/* MurmurHash3_x64_128, which its author publishes a verification value for. `high` is the first word. */
kv_placement_hash kv_placement_murmur(uint32_t seed, const void *data, size_t size);
/* Names are those that hello accepts, "default" spelled out. */
kv_placement_hash kv_placement_of(const char *tenant, const char *name_space, const void *key, size_t key_size);
/* `slot_count` is a power of two. */
uint32_t kv_placement_slot(kv_placement_hash hash, uint32_t slot_count);

#endif
