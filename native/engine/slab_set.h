/* A set of integers below `count` that finds its smallest member in a few steps: a tree of bits
 * in one array of words that the caller owns. A bit of an upper level says that the word below it
 * is not zero.
 *
 *   level 1 (last)    | 1 0 1 ... |
 *                       |   |
 *   level 0 (first)   | w | 0 | w | ...     bit i of level 0: i is a member
 *
 * Invariant: every bit of an upper level equals "its word of the level below is not zero". */
#ifndef KV_SLAB_SET_H
#define KV_SLAB_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_SLAB_SET_LEVELS_MAX 6 /* 64^6 exceeds every count */
#define KV_SLAB_SET_EMPTY UINT32_MAX

static inline uint32_t kv_slab_set_level_words(uint32_t count)
{
    return count / 64 + (count % 64 != 0);
}

/* Words of 64 bits that a set of integers below `count` (at least 1) takes. */
static inline size_t kv_slab_set_words(uint32_t count)
{
    size_t words = 0;

    do {
        count = kv_slab_set_level_words(count);
        words += count;
    } while (count > 1);
    return words;
}

/* Make every integer below `count` a member. */
static inline void kv_slab_set_fill(uint64_t *words, uint32_t count)
{
    uint32_t level_words;

    do {
        level_words = kv_slab_set_level_words(count);
        for (uint32_t word = 0; word < level_words; word++)
            words[word] = UINT64_MAX;
        if (count % 64)
            words[level_words - 1] = ((uint64_t)1 << count % 64) - 1;
        words += level_words;
        count = level_words;
    } while (count > 1);
}

static inline bool kv_slab_set_has(const uint64_t *words, uint32_t member)
{
    return words[member / 64] >> member % 64 & 1;
}

static inline void kv_slab_set_add(uint64_t *words, uint32_t count, uint32_t member)
{
    uint64_t before;

    do {
        before = words[member / 64];
        words[member / 64] = before | (uint64_t)1 << member % 64;
        count = kv_slab_set_level_words(count);
        words += count;
        member /= 64;
    } while (before == 0 && count > 1);
}

static inline void kv_slab_set_remove(uint64_t *words, uint32_t count, uint32_t member)
{
    uint64_t after;

    do {
        after = words[member / 64] & ~((uint64_t)1 << member % 64);
        words[member / 64] = after;
        count = kv_slab_set_level_words(count);
        words += count;
        member /= 64;
    } while (after == 0 && count > 1);
}

/* Smallest member, or KV_SLAB_SET_EMPTY. */
static inline uint32_t kv_slab_set_first(const uint64_t *words, uint32_t count)
{
    const uint64_t *levels[KV_SLAB_SET_LEVELS_MAX];
    int level = 0;
    uint32_t member = 0;

    do {
        levels[level++] = words;
        count = kv_slab_set_level_words(count);
        words += count;
    } while (count > 1);

    while (level-- > 0) {
        uint64_t word = levels[level][member];

        if (word == 0)
            return KV_SLAB_SET_EMPTY;
        member = member * 64 + (uint32_t)__builtin_ctzll(word);
    }
    return member;
}

#endif
