/* Placement by MurmurHash3_x64_128 (Austin Appleby, public domain) with seed 0, over
 *
 *   ┌─────────┬────────┬─────────┬───────────┬─────┐
 *   │ size u8 │ tenant │ size u8 │ namespace │ key │
 *   └─────────┴────────┴─────────┴───────────┴─────┘
 *
 * so that no two triples of names and key make the same bytes. Guarantees the same hash on every
 * machine; spreads keys evenly, and is no protection against whoever picks keys to meet one slot. */

#include "protocol/placement.h"

#include "bytes/endian.h"
#include "protocol/hello.h"

#include <assert.h>
#include <string.h>

#define BLOCK_SIZE 16u
#define FACTOR_1 0x87c37b91114253d5u
#define FACTOR_2 0x4cf5ad432745937fu

/* Both names with their sizes, and the part of the key that fills the last block. */
#define NAMES_SIZE_MAX (2u + 2u * KV_NAME_SIZE_MAX)
#define START_SIZE_MAX (NAMES_SIZE_MAX + BLOCK_SIZE)

#define SLOT_BITS_MAX 16

_Static_assert(KV_SLOT_COUNT_MAX == 1u << SLOT_BITS_MAX, "slots are named by leading bits");

static uint64_t rotate(uint64_t word, int count)
{
    return word << count | word >> (64 - count);
}

/* As memcpy, which is called where the size varies: a call costs more than so few bytes do. */
static void copy_short(uint8_t *target, const uint8_t *source, size_t size)
{
    if (size > BLOCK_SIZE) {
        memcpy(target, source, size);
    } else if (size >= 8) {
        memcpy(target, source, 8);
        memcpy(target + size - 8, source + size - 8, 8);
    } else if (size >= 4) {
        memcpy(target, source, 4);
        memcpy(target + size - 4, source + size - 4, 4);
    } else {
        for (size_t i = 0; i < size; i++)
            target[i] = source[i];
    }
}

static uint64_t scramble_low(uint64_t word)
{
    return rotate(word * FACTOR_1, 31) * FACTOR_2;
}

static uint64_t scramble_high(uint64_t word)
{
    return rotate(word * FACTOR_2, 33) * FACTOR_1;
}

/* `high` is the first word of the hash and of each block, as the function's author prints it. */
static kv_placement_hash blocks_take(kv_placement_hash hash, const uint8_t *data, size_t size)
{
    assert(size % BLOCK_SIZE == 0);
    for (; size > 0; size -= BLOCK_SIZE, data += BLOCK_SIZE) {
        hash.high ^= scramble_low(kv_endian_load_u64(data));
        hash.high = (rotate(hash.high, 27) + hash.low) * 5 + 0x52dce729;
        hash.low ^= scramble_high(kv_endian_load_u64(data + 8));
        hash.low = (rotate(hash.low, 31) + hash.high) * 5 + 0x38495ab5;
    }
    return hash;
}

static uint64_t avalanche(uint64_t word)
{
    word = (word ^ word >> 33) * 0xff51afd7ed558ccdu;
    word = (word ^ word >> 33) * 0xc4ceb9fe1a85ec53u;
    return word ^ word >> 33;
}

/* The last bytes, fewer than a block, count as a block with zeros behind; `size` is of everything. */
static kv_placement_hash hash_end(kv_placement_hash hash, const uint8_t *tail, size_t size)
{
    uint8_t block[BLOCK_SIZE] = {0};

    copy_short(block, tail, size % BLOCK_SIZE);
    hash.high ^= scramble_low(kv_endian_load_u64(block)) ^ size;
    hash.low ^= scramble_high(kv_endian_load_u64(block + 8)) ^ size;
    hash.high += hash.low;
    hash.low += hash.high;
    hash.high = avalanche(hash.high);
    hash.low = avalanche(hash.low);
    hash.high += hash.low;
    hash.low += hash.high;
    return hash;
}

kv_placement_hash kv_placement_murmur(uint32_t seed, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t whole = size - size % BLOCK_SIZE;
    kv_placement_hash hash = {seed, seed};

    return hash_end(blocks_take(hash, bytes, whole), bytes + whole, size);
}

static uint8_t *name_store(uint8_t *at, const char *name)
{
    size_t size = strlen(name);

    assert(size <= KV_NAME_SIZE_MAX);
    *at = (uint8_t)size;
    copy_short(at + 1, (const uint8_t *)name, size);
    return at + 1 + size;
}

/* The names and as much of the key as completes a block are laid out in `start`; the rest of the key
 * is taken from where it is. */
kv_placement_hash kv_placement_of(const char *tenant, const char *name_space, const void *key,
                                  size_t key_size)
{
    uint8_t start[START_SIZE_MAX];
    uint8_t *end = name_store(name_store(start, tenant), name_space);
    const uint8_t *rest = key;
    size_t size = (size_t)(end - start);
    size_t total = size + key_size;
    size_t moved = (BLOCK_SIZE - size % BLOCK_SIZE) % BLOCK_SIZE;
    kv_placement_hash hash = {0, 0};

    if (moved > key_size)
        moved = key_size;
    copy_short(end, rest, moved);
    size += moved;
    hash = blocks_take(hash, start, size - size % BLOCK_SIZE);
    if (size % BLOCK_SIZE > 0)
        return hash_end(hash, start + (size - size % BLOCK_SIZE), total);
    rest += moved;
    size = key_size - moved;
    hash = blocks_take(hash, rest, size - size % BLOCK_SIZE);
    return hash_end(hash, rest + (size - size % BLOCK_SIZE), total);
}

uint32_t kv_placement_slot(kv_placement_hash hash, uint32_t slot_count)
{
    assert(slot_count > 0 && slot_count <= KV_SLOT_COUNT_MAX);
    assert((slot_count & (slot_count - 1)) == 0);
    return (uint32_t)(hash.high >> (64 - SLOT_BITS_MAX)) >>
           (SLOT_BITS_MAX - __builtin_ctz(slot_count));
}
