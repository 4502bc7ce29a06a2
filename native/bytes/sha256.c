/* SHA-256 as FIPS 180-4 states it, and HMAC as RFC 2104 does. Guarantees that the comparison of
 * digests takes a time that does not depend on their bytes; leaves wiping of keys to their owner. */

#include "bytes/sha256.h"

#include <assert.h>
#include <string.h>

#define BLOCK_SIZE 64u
#define SIZE_AT 56u
#define INNER_PAD 0x36u
#define OUTER_PAD 0x5cu

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t word, int count)
{
    return word >> count | word << (32 - count);
}

/* The standard's words are big-endian. */
static uint32_t load_big(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void store_big(uint8_t *bytes, uint32_t word)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(word >> (24 - 8 * i));
}

static void schedule_fill(uint32_t words[64], const uint8_t *block)
{
    for (int i = 0; i < 16; i++)
        words[i] = load_big(block + (size_t)i * 4);
    for (int i = 16; i < 64; i++) {
        uint32_t early = words[i - 15], late = words[i - 2];

        words[i] = words[i - 16] + (rotate(early, 7) ^ rotate(early, 18) ^ early >> 3) +
                   words[i - 7] + (rotate(late, 17) ^ rotate(late, 19) ^ late >> 10);
    }
}

/* `at` are the standard's working variables a ... h. */
static void block_take(uint32_t state[8], const uint8_t *block)
{
    uint32_t words[64], at[8];

    schedule_fill(words, block);
    memcpy(at, state, sizeof(at));
    for (int i = 0; i < 64; i++) {
        uint32_t sum = rotate(at[4], 6) ^ rotate(at[4], 11) ^ rotate(at[4], 25);
        uint32_t choice = (at[4] & at[5]) ^ (~at[4] & at[6]);
        uint32_t first = at[7] + sum + choice + constants[i] + words[i];
        uint32_t majority = (at[0] & at[1]) ^ (at[0] & at[2]) ^ (at[1] & at[2]);
        uint32_t second = (rotate(at[0], 2) ^ rotate(at[0], 13) ^ rotate(at[0], 22)) + majority;

        memmove(at + 1, at, 7 * sizeof(at[0]));
        at[4] += first;
        at[0] = first + second;
    }
    for (int i = 0; i < 8; i++)
        state[i] += at[i];
}

/* The first 32 bits of the fractional parts of the square roots of the first 8 primes. */
void kv_sha256_init(kv_sha256 *sha)
{
    *sha = (kv_sha256){.state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
                                 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void kv_sha256_add(kv_sha256 *sha, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    size_t held = sha->size % BLOCK_SIZE;

    assert(data != NULL || size == 0);
    sha->size += size;
    if (held > 0 && size >= BLOCK_SIZE - held) {
        memcpy(sha->pending + held, bytes, BLOCK_SIZE - held);
        block_take(sha->state, sha->pending);
        bytes += BLOCK_SIZE - held;
        size -= BLOCK_SIZE - held;
        held = 0;
    }
    for (; size >= BLOCK_SIZE; size -= BLOCK_SIZE, bytes += BLOCK_SIZE)
        block_take(sha->state, bytes);
    if (size > 0)
        memcpy(sha->pending + held, bytes, size);
}

/* A one bit, zeros, and the size in bits end the last block. */
void kv_sha256_end(kv_sha256 *sha, uint8_t digest[KV_SHA256_SIZE])
{
    uint64_t bits = sha->size * 8;
    size_t held = sha->size % BLOCK_SIZE;

    sha->pending[held++] = 0x80;
    if (held > SIZE_AT) {
        memset(sha->pending + held, 0, BLOCK_SIZE - held);
        block_take(sha->state, sha->pending);
        held = 0;
    }
    memset(sha->pending + held, 0, SIZE_AT - held);
    store_big(sha->pending + SIZE_AT, (uint32_t)(bits >> 32));
    store_big(sha->pending + SIZE_AT + 4, (uint32_t)bits);
    block_take(sha->state, sha->pending);
    for (int i = 0; i < 8; i++)
        store_big(digest + (size_t)i * 4, sha->state[i]);
}

void kv_hmac_init(kv_hmac *hmac, const void *key, size_t key_size)
{
    uint8_t block[BLOCK_SIZE] = {0};

    assert(key != NULL || key_size == 0);
    if (key_size > BLOCK_SIZE) {
        kv_sha256_init(&hmac->inner);
        kv_sha256_add(&hmac->inner, key, key_size);
        kv_sha256_end(&hmac->inner, block);
    } else if (key_size > 0) {
        memcpy(block, key, key_size);
    }
    for (size_t i = 0; i < BLOCK_SIZE; i++) {
        hmac->outer_key[i] = block[i] ^ OUTER_PAD;
        block[i] ^= INNER_PAD;
    }
    kv_sha256_init(&hmac->inner);
    kv_sha256_add(&hmac->inner, block, BLOCK_SIZE);
}

void kv_hmac_add(kv_hmac *hmac, const void *data, size_t size)
{
    kv_sha256_add(&hmac->inner, data, size);
}

void kv_hmac_end(kv_hmac *hmac, uint8_t digest[KV_SHA256_SIZE])
{
    kv_sha256 outer;

    kv_sha256_end(&hmac->inner, digest);
    kv_sha256_init(&outer);
    kv_sha256_add(&outer, hmac->outer_key, BLOCK_SIZE);
    kv_sha256_add(&outer, digest, KV_SHA256_SIZE);
    kv_sha256_end(&outer, digest);
}

/* Volatile, so that no compiler leaves the loop at the first difference. */
bool kv_sha256_equal(const uint8_t left[KV_SHA256_SIZE], const uint8_t right[KV_SHA256_SIZE])
{
    volatile uint8_t difference = 0;

    for (size_t i = 0; i < KV_SHA256_SIZE; i++)
        difference = (uint8_t)(difference | (left[i] ^ right[i]));
    return difference == 0;
}
