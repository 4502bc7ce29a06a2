#include "engine/slab_set.h"

#include <assert.h>
#include <stdlib.h>

static uint32_t naive_first(const uint8_t *members, uint32_t count)
{
    for (uint32_t member = 0; member < count; member++) {
        if (members[member])
            return member;
    }
    return KV_SLAB_SET_EMPTY;
}

static void a_set_of_any_count_matches_an_array(uint32_t count)
{
    uint64_t *words = calloc(kv_slab_set_words(count), sizeof(uint64_t));
    uint8_t *members = calloc(count, 1);
    uint64_t seed = count;

    for (uint32_t step = 0; step < 2000; step++) {
        uint32_t member;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        member = (uint32_t)(seed >> 33) % count;
        if (seed >> 60 < 6) {
            kv_slab_set_add(words, count, member);
            members[member] = 1;
        } else {
            kv_slab_set_remove(words, count, member);
            members[member] = 0;
        }
        assert(kv_slab_set_has(words, member) == members[member]);
        assert(naive_first(members, count) == kv_slab_set_first(words, count));
    }
    free(members);
    free(words);
}

static void a_full_set_gives_every_member_in_order(uint32_t count)
{
    uint64_t *words = calloc(kv_slab_set_words(count), sizeof(uint64_t));

    kv_slab_set_fill(words, count);
    for (uint32_t member = 0; member < count; member++) {
        assert(kv_slab_set_first(words, count) == member);
        kv_slab_set_remove(words, count, member);
    }
    assert(kv_slab_set_first(words, count) == KV_SLAB_SET_EMPTY);
    free(words);
}

int main(void)
{
    static const uint32_t counts[] = {
        1, 2, 63, 64, 65, 127, 4095, 4096, 4097, 5000, 262144, 262145,
    };

    for (uint32_t index = 0; index < sizeof(counts) / sizeof(counts[0]); index++) {
        if (counts[index] <= 5000)
            a_set_of_any_count_matches_an_array(counts[index]);
        a_full_set_gives_every_member_in_order(counts[index]);
    }
}
