/* Where a target and its successor differ, by a digest of both: what lies in the other parts need
 * not be named. See resync.h.
 *
 * Either goes through its objects while live updates run. That is enough: where the sums agree,
 * each key was at one moment here as it was at one moment there, and whatever changes it gets to
 * both. */

#include "node/resync_state.h"

#include "bytes/endian.h"
#include "bytes/hash.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint64_t object_count(const kv_resync *resync)
{
    kv_store_statistics statistics;

    kv_store_statistics_read(resync->chain->target->store, &statistics);
    return statistics.objects;
}

bool kv_resync_digest_begin(kv_resync *resync)
{
    kv_resync_digest *digest = &resync->digest;
    uint64_t now_ns = kv_clock_ns();
    uint32_t parts;

    kv_resync_digest_end(resync);
    digest->cut = (kv_digest){.seed = kv_hash(resync->chain->seed, &now_ns, sizeof(now_ns)),
                              .bits = kv_digest_bits(object_count(resync))};
    parts = kv_digest_parts(&digest->cut);
    digest->reply_size = KV_RESYNC_CURSOR_SIZE + parts * (uint32_t)sizeof(uint64_t);
    digest->sums = calloc(parts, sizeof(*digest->sums));
    digest->differing = calloc(1, parts / 8);
    digest->reply = malloc(digest->reply_size);
    if (digest->sums && digest->differing && digest->reply)
        return true;
    kv_resync_digest_end(resync);
    return false;
}

static void sums_end(kv_resync_digest *digest)
{
    free(digest->sums);
    free(digest->reply);
    digest->sums = NULL;
    digest->reply = NULL;
}

void kv_resync_digest_end(kv_resync *resync)
{
    sums_end(&resync->digest);
    free(resync->digest.differing);
    resync->digest.differing = NULL;
}

void kv_resync_digest_add(kv_resync *resync)
{
    kv_resync_digest *digest = &resync->digest;

    kv_digest_add(&digest->cut, resync->page, resync->page_size, digest->sums);
    for (uint32_t at = 0; at < resync->page_size;) {
        const uint8_t *entry = resync->page + at;
        uint32_t key_size = kv_endian_load_u16(entry);

        if (kv_endian_load_u64(entry + KV_ENTRY_AT_VERSION) == 0)
            kv_digest_put(digest->differing,
                          kv_digest_part(&digest->cut, entry + KV_STORED_ENTRY_SIZE, key_size));
        at += KV_STORED_ENTRY_SIZE + key_size;
    }
}

void kv_resync_digest_take(kv_resync *resync)
{
    kv_resync_digest *digest = &resync->digest;
    const uint8_t *theirs = digest->reply + KV_RESYNC_CURSOR_SIZE;

    for (uint32_t i = 0; i < kv_digest_parts(&digest->cut); i++)
        digest->sums[i] -= kv_endian_load_u64(theirs + (size_t)i * 8);
}

void kv_resync_digest_forgo(kv_resync *resync)
{
    memset(resync->digest.differing, 0xff, kv_digest_parts(&resync->digest.cut) / 8);
}

void kv_resync_digest_compare(kv_resync *resync)
{
    kv_resync_digest *digest = &resync->digest;

    for (uint32_t i = 0; i < kv_digest_parts(&digest->cut); i++)
        if (digest->sums[i] != 0)
            kv_digest_put(digest->differing, i);
    sums_end(digest);
}

bool kv_resync_digest_differs(const kv_resync *resync, const void *key, uint32_t key_size)
{
    const kv_resync_digest *digest = &resync->digest;

    assert(digest->differing && !digest->sums);
    return kv_digest_has(digest->differing, kv_digest_part(&digest->cut, key, key_size));
}
