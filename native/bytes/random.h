/* Pseudo-random numbers from a seed (xoshiro256**, seeded by splitmix64, both by Blackman and
 * Vigna): the same seed gives the same numbers on every machine. Never for secrets. */
#ifndef KV_RANDOM_H
#define KV_RANDOM_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kv_random {
    uint64_t state[4];
} kv_random;

/* Any seed is good, 0 too: splitmix64 never leaves the whole state zero. */
static inline void kv_random_init(kv_random *random, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t mixed = seed += 0x9E3779B97F4A7C15u;

        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
        random->state[i] = mixed ^ (mixed >> 31);
    }
}

static inline uint64_t kv_random_rotate(uint64_t value, int count)
{
    return (value << count) | (value >> (64 - count));
}

static inline uint64_t kv_random_next(kv_random *random)
{
    uint64_t *state = random->state;
    uint64_t result = kv_random_rotate(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;

    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = kv_random_rotate(state[3], 45);
    return result;
}

/* 0 ... limit - 1. The bias of the remainder is below limit / 2^64. */
static inline uint64_t kv_random_below(kv_random *random, uint64_t limit)
{
    assert(limit > 0);
    return kv_random_next(random) % limit;
}

/* True once in `count` draws. */
static inline bool kv_random_one_in(kv_random *random, uint64_t count)
{
    return kv_random_below(random, count) == 0;
}

static inline void kv_random_fill(kv_random *random, void *target, size_t size)
{
    uint8_t *bytes = target;
    uint64_t word = 0;

    for (size_t i = 0; i < size; i++) {
        if (i % 8 == 0)
            word = kv_random_next(random);
        bytes[i] = (uint8_t)(word >> (i % 8 * 8));
    }
}

#endif
