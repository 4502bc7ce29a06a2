/* See digest.h. */

#include "node/digest.h"

#include "bytes/endian.h"
#include "bytes/hash.h"
#include "engine/engine.h"

#include <assert.h>

#define ENTRY_AT_FLAGS 2u
#define ENTRY_AT_VERSION 12u
#define SUM_SEED 0x6a09e667f3bcc909u /* sums take another hash than parts */

uint32_t kv_digest_bits(uint64_t count)
{
    uint32_t bits = KV_DIGEST_BITS_MIN;

    while (bits < KV_DIGEST_BITS_MAX && count >> bits >= KV_DIGEST_PART_COUNT)
        bits++;
    return bits;
}

static uint32_t part_of(const kv_digest *digest, uint64_t hash)
{
    return (uint32_t)(hash >> (64 - digest->bits));
}

uint32_t kv_digest_part(const kv_digest *digest, const void *key, uint32_t key_size)
{
    return part_of(digest, kv_hash(digest->seed, key, key_size));
}

void kv_digest_add(const kv_digest *digest, const uint8_t *entries, uint64_t size, uint64_t *sums)
{
    assert(digest->bits >= KV_DIGEST_BITS_MIN && digest->bits <= KV_DIGEST_BITS_MAX);
    for (uint64_t at = 0; at < size;) {
        const uint8_t *entry = entries + at;
        uint32_t key_size = kv_endian_load_u16(entry);
        uint64_t hash = kv_hash(digest->seed, entry + KV_STORED_ENTRY_SIZE, key_size);
        bool pinned = kv_endian_load_u16(entry + ENTRY_AT_FLAGS) & KV_ITEM_PINNED;
        uint64_t words[3] = {hash, kv_endian_load_u64(entry + ENTRY_AT_VERSION), pinned};

        sums[part_of(digest, hash)] += kv_hash(digest->seed ^ SUM_SEED, words, sizeof(words));
        at += KV_STORED_ENTRY_SIZE + key_size;
        assert(at <= size);
    }
}
