/* A keyed 64-bit hash by folded multiplication: each sixteen bytes are blinded with secrets that
 * the seed enters, multiplied 64 by 64 to 128 bits, and the product's halves are folded together.
 * Guarantees that every bit of key and seed reaches the high and the low bits alike; it is no
 * cryptographic authentication, and equal hashes never stand for equal keys. */

#include "bytes/hash.h"

#include <assert.h>
#include <string.h>

/* The first fraction bits of pi, made odd: numbers without a pattern that nobody had to choose. */
#define SECRET_0 0x243f6a8885a308d3u
#define SECRET_1 0x13198a2e03707345u
#define SECRET_2 0xa4093822299f31d1u
#define SECRET_3 0x082efa98ec4e6c89u
#define SECRET_4 0x452821e638d01377u

/* Long keys are taken in two lanes, so that one multiplication does not wait for the other. */
#define LANE_SIZE 16
#define STEP_SIZE 32

static uint64_t load_u64(const uint8_t *data)
{
    uint64_t word;

    memcpy(&word, data, sizeof(word));
    return word;
}

static uint64_t load_u32(const uint8_t *data)
{
    uint32_t word;

    memcpy(&word, data, sizeof(word));
    return word;
}

#if defined(__SIZEOF_INT128__)

__extension__ typedef unsigned __int128 wide_u128;

static uint64_t fold(uint64_t a, uint64_t b)
{
    wide_u128 product = (wide_u128)a * b;

    return (uint64_t)(product >> 64) ^ (uint64_t)product;
}

#else

/* The same by four products of halves. The sum of the middle ones cannot overflow: each term is
 * below 2^32 but one, which is at most (2^32 - 1)^2. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    uint64_t low = (a & UINT32_MAX) * (b & UINT32_MAX);
    uint64_t cross = (a >> 32) * (b & UINT32_MAX);
    uint64_t middle = (a & UINT32_MAX) * (b >> 32) + (cross & UINT32_MAX) + (low >> 32);
    uint64_t high = (a >> 32) * (b >> 32) + (cross >> 32) + (middle >> 32);

    return high ^ (middle << 32 | (low & UINT32_MAX));
}

#endif

/* Up to sixteen bytes as two words; the loads overlap rather than branch on every size. */
static void load_short(const uint8_t *data, size_t size, uint64_t words[2])
{
    assert(size <= LANE_SIZE);
    if (size >= 8) {
        words[0] = load_u64(data);
        words[1] = load_u64(data + size - 8);
    } else if (size >= 4) {
        words[0] = load_u32(data);
        words[1] = load_u32(data + size - 4);
    } else if (size > 0) {
        words[0] = (uint64_t)data[0] << 16 | (uint64_t)data[size / 2] << 8 | data[size - 1];
        words[1] = 0;
    } else {
        words[0] = 0;
        words[1] = 0;
    }
}

uint64_t kv_hash(uint64_t seed, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    /* Both factors of a product carry the seed, so that nobody outside can aim at a zero. */
    uint64_t first = fold(seed ^ SECRET_0, SECRET_1);
    uint64_t second = seed ^ SECRET_2;
    uint64_t tail[2];

    assert(data != NULL || size == 0);
    if (size <= LANE_SIZE) {
        load_short(bytes, size, tail);
    } else {
        size_t left = size;

        for (; left > STEP_SIZE; left -= STEP_SIZE, bytes += STEP_SIZE) {
            first = fold(load_u64(bytes) ^ second ^ SECRET_3, load_u64(bytes + 8) ^ first);
            second = fold(load_u64(bytes + 16) ^ SECRET_4, load_u64(bytes + 24) ^ second);
        }
        /* At most two lanes are left; the last sixteen bytes are taken in any case, and where
         * fewer are left they overlap what was taken before. */
        if (left > LANE_SIZE)
            first = fold(load_u64(bytes) ^ second ^ SECRET_3, load_u64(bytes + 8) ^ first);
        tail[0] = load_u64(bytes + left - 16);
        tail[1] = load_u64(bytes + left - 8);
    }
    /* The size tells apart keys whose overlapping loads agree, such as runs of one byte. */
    first = fold(tail[0] ^ second, tail[1] ^ first);
    return fold(first ^ size ^ SECRET_3, second ^ SECRET_4);
}
