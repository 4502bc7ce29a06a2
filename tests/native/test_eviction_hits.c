#include <assert.h>
#include <stdlib.h>

#include "bytes/random.h"
#include "engine/eviction.h"
#include "eviction_user.h"

/* A synthetic trace: documents asked about again and again for a while, each time with a question
 * of its own behind; and requests that nobody repeats. Keys are numbered from 1. */
enum { REQUEST_COUNT = 3000, REQUEST_KEYS_MAX = 65 };

typedef struct requests {
    uint32_t keys[REQUEST_COUNT * REQUEST_KEYS_MAX];
    uint32_t lengths[REQUEST_COUNT];
    uint32_t key_count;
} requests;

static void trace_generate(requests *trace, uint64_t seed)
{
    enum { DOCUMENTS = 80 };
    struct {
        uint32_t first, length;
    } documents[DOCUMENTS] = {{0, 0}};
    kv_random random;
    uint32_t *keys = trace->keys;

    kv_random_init(&random, seed);
    trace->key_count = 0;
    for (uint32_t i = 0; i < REQUEST_COUNT; i++) {
        uint32_t new_count = 1, length = 0;

        if (kv_random_one_in(&random, 2)) {
            new_count = 1 + (uint32_t)kv_random_below(&random, 60);
        } else {
            /* The product of two draws favours low numbers: some documents are more popular. */
            uint64_t n = kv_random_below(&random, DOCUMENTS) * kv_random_below(&random, DOCUMENTS);
            uint32_t d = (uint32_t)(n / DOCUMENTS);

            if (documents[d].length == 0 || kv_random_one_in(&random, 25)) {
                documents[d].length = 5 + (uint32_t)kv_random_below(&random, 60);
                documents[d].first = trace->key_count + 1;
                trace->key_count += documents[d].length;
            }
            for (; length < documents[d].length; length++)
                *keys++ = documents[d].first + length;
        }
        trace->lengths[i] = length + new_count;
        while (new_count-- > 0)
            *keys++ = ++trace->key_count;
    }
}

/* Replays a trace as a KV cache does: get the leading keys that are there, set the others. */
static uint64_t policy_hits(const requests *trace, uint32_t capacity)
{
    const uint32_t *keys = trace->keys;
    uint64_t hits = 0;
    fixture user;

    user_open(&user, trace->key_count, capacity);
    for (uint32_t i = 0; i < REQUEST_COUNT; keys += trace->lengths[i], i++) {
        uint32_t length = trace->lengths[i], matched = 0;

        while (matched < length && user.nodes[keys[matched]].queue != 0)
            matched++;
        hits += matched;
        for (uint32_t rank = 0; rank < matched; rank++)
            kv_eviction_touch(user.eviction, keys[rank], rank);
        for (uint32_t j = matched; j < length; j++) {
            if (user.nodes[keys[j]].queue != 0) {
                kv_eviction_touch(user.eviction, keys[j], j - matched);
                continue;
            }
            if (kv_eviction_count(user.eviction) == capacity)
                assert(pick(&user) != 0);
            insert(&user, keys[j], j - matched);
        }
        assert(kv_eviction_count(user.eviction) <= capacity);
    }
    user_close(&user);
    return hits;
}

/* Least recently used: a log of uses, of which only the last of each key counts. */
static uint64_t lru_hits(const requests *trace, uint32_t capacity)
{
    uint32_t *last_use = calloc(trace->key_count + 1, sizeof(*last_use)); /* 0: not there */
    const uint32_t *keys = trace->keys;
    uint32_t oldest = 1, now = 0, count = 0;
    uint64_t hits = 0;

    assert(last_use);
    for (uint32_t i = 0; i < REQUEST_COUNT; keys += trace->lengths[i], i++) {
        uint32_t length = trace->lengths[i], matched = 0;

        while (matched < length && last_use[keys[matched]] != 0)
            matched++;
        hits += matched;
        for (uint32_t j = 0; j < length; j++) {
            if (last_use[keys[j]] == 0 && count++ == capacity) {
                while (last_use[trace->keys[oldest - 1]] != oldest)
                    oldest++;
                last_use[trace->keys[oldest - 1]] = 0;
                count--;
            }
            last_use[keys[j]] = ++now;
        }
    }
    free(last_use);
    return hits;
}

static void a_quarter_more_prefixes_hit_than_with_lru(void)
{
    requests *trace = calloc(1, sizeof(*trace));

    assert(trace);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        trace_generate(trace, seed);
        for (uint32_t capacity = 250; capacity <= 2000; capacity *= 2) {
            uint64_t lru = lru_hits(trace, capacity);

            assert(lru > 0);
            assert(policy_hits(trace, capacity) * 4 > lru * 5);
        }
    }
    free(trace);
}

int main(void)
{
    a_quarter_more_prefixes_hit_than_with_lru();
}
