/* See stored.h. */

#include "node/stored.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CURSOR_SIZE 8u
#define PAGE_SIZE 65536u
#define LIST_PAGES_MAX 256u   /* that one list goes through, about */
#define DIGEST_PAGES_MAX 512u

static bool digest_load(const uint8_t *bytes, kv_digest *digest)
{
    digest->seed = kv_endian_load_u64(bytes);
    digest->bits = kv_endian_load_u32(bytes + 8);
    return digest->bits >= KV_DIGEST_BITS_MIN && digest->bits <= KV_DIGEST_BITS_MAX;
}

/* ---- lists ---- */

/* Those of the parts, moved together; returns the bytes that are left. */
static uint64_t entries_sift(const kv_digest *digest, const uint8_t *set, uint8_t *entries,
                             uint64_t size)
{
    uint64_t kept = 0;

    for (uint64_t at = 0; at < size;) {
        uint32_t key_size = kv_endian_load_u16(entries + at);
        uint32_t entry_size = KV_STORED_ENTRY_SIZE + key_size;

        if (kv_digest_has(set, kv_digest_part(digest, entries + at + KV_STORED_ENTRY_SIZE,
                                              key_size))) {
            memmove(entries + kept, entries + at, entry_size);
            kept += entry_size;
        }
        at += entry_size;
    }
    return kept;
}

/* What is passed over leaves room for more. */
static int64_t list_sifted(kv_engine *engine, uint64_t *cursor, const kv_digest *digest,
                           const uint8_t *set, uint8_t *entries, uint64_t room)
{
    uint64_t used = 0, met = 0;

    while (*cursor != UINT64_MAX && met < (uint64_t)LIST_PAGES_MAX * PAGE_SIZE &&
           used <= room / 2) {
        int64_t size = kv_engine_list_stored(engine, cursor, entries + used, room - used);

        if (size == -ENOBUFS && used > 0)
            break; /* the next list begins with it */
        if (size < 0)
            return size;
        met += (uint64_t)size;
        used += entries_sift(digest, set, entries + used, (uint64_t)size);
    }
    return (int64_t)used;
}

int64_t kv_stored_list(kv_engine *engine, const uint8_t *body, uint32_t body_size, uint8_t *reply,
                       uint32_t room)
{
    const uint8_t *filter = body + KV_STORED_LIST_SIZE;
    uint64_t cursor = kv_endian_load_u64(body);
    kv_digest digest;
    int64_t size;

    assert(body_size >= KV_STORED_LIST_SIZE && room > CURSOR_SIZE);
    if (body_size == KV_STORED_LIST_SIZE)
        size = kv_engine_list_stored(engine, &cursor, reply + CURSOR_SIZE, room - CURSOR_SIZE);
    else if (body_size >= KV_STORED_LIST_SIZE + KV_STORED_FILTER_SIZE &&
             digest_load(filter, &digest) &&
             body_size - KV_STORED_LIST_SIZE - KV_STORED_FILTER_SIZE == kv_digest_parts(&digest) / 8)
        size = list_sifted(engine, &cursor, &digest, filter + KV_STORED_FILTER_SIZE,
                           reply + CURSOR_SIZE, room - CURSOR_SIZE);
    else
        size = -EINVAL;
    kv_endian_store_u64(reply, cursor);
    return size < 0 ? size : CURSOR_SIZE + size;
}

/* ---- digests ---- */

uint32_t kv_stored_digest_room(const uint8_t *body, uint32_t body_size)
{
    kv_digest digest;

    if (body_size != KV_STORED_DIGEST_SIZE || !digest_load(body + CURSOR_SIZE, &digest))
        return 0;
    return CURSOR_SIZE + kv_digest_parts(&digest) * (uint32_t)sizeof(uint64_t);
}

int64_t kv_stored_digest(kv_engine *engine, const uint8_t *body, uint8_t *reply, uint32_t room)
{
    uint64_t cursor = kv_endian_load_u64(body);
    kv_digest digest = {0};
    bool legal = digest_load(body + CURSOR_SIZE, &digest);
    uint64_t *sums = calloc(kv_digest_parts(&digest), sizeof(*sums));
    uint8_t *page = malloc(PAGE_SIZE);
    uint32_t pages = 0;

    assert(legal && room >= CURSOR_SIZE + kv_digest_parts(&digest) * sizeof(uint64_t));
    while (sums && page && cursor != UINT64_MAX && pages++ < DIGEST_PAGES_MAX) {
        int64_t size = kv_engine_list_stored(engine, &cursor, page, PAGE_SIZE);

        assert(size >= 0); /* a page holds any entry */
        kv_digest_add(&digest, page, (uint64_t)size, sums);
    }
    kv_endian_store_u64(reply, cursor);
    for (uint32_t i = 0; sums && i < kv_digest_parts(&digest); i++)
        kv_endian_store_u64(reply + CURSOR_SIZE + (size_t)i * 8, sums[i]);
    room = sums && page ? CURSOR_SIZE + kv_digest_parts(&digest) * 8 : 0;
    free(sums);
    free(page);
    return room > 0 ? (int64_t)room : -ENOMEM;
}
