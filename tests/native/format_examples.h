/* Records to encode, drawn from a fixed seed, and what the tests of the storage format share. */
#ifndef KV_FORMAT_EXAMPLES_H
#define KV_FORMAT_EXAMPLES_H

#include "bytes/random.h"
#include "engine/format.h"
#include "engine/object.h"

#include <assert.h>
#include <string.h>

#define CLASS_COUNT 120u

static kv_random draws = {{0x6b76, 0x7374, 0x6f72, 0x65}};

static inline uint64_t random_next(void)
{
    return kv_random_next(&draws);
}

static inline uint32_t random_below(uint32_t limit)
{
    return (uint32_t)kv_random_below(&draws, limit);
}

/* A key of random size; its bytes outlive the record and are the same for all. */
static inline void fill_key(kv_record *record)
{
    static uint8_t bytes[KV_KEY_SIZE_MAX];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
    record->key = bytes;
    record->key_size = (uint16_t)(1 + random_below(KV_KEY_SIZE_MAX));
}

/* A record with that many pieces of one class, wholly used but for the last. */
static inline void fill_value(kv_record *record, kv_record_kind kind, uint32_t piece_count)
{
    uint32_t class_max = piece_count > 1 ? 56 : CLASS_COUNT; /* 256 pieces stay below 64 MiB */

    memset(record, 0, sizeof(*record));
    record->kind = kind;
    fill_key(record);
    record->flags = random_below(2) ? KV_RECORD_FLAG_PINNED : 0;
    record->checksum = (uint32_t)random_next();
    record->expiry_ms = random_below(2) ? 0 : KV_OBJECT_EXPIRY_BASE_MS + 1 + random_below(1u << 30);
    record->sequence_of = kind == KV_RECORD_MOVE || random_below(2) ? random_next() >> 16 | 1 : 0;
    record->version = random_below(2) ? random_next() >> 1 | 1 : 0;
    record->piece_count = (uint16_t)piece_count;
    for (uint32_t i = 0; i < piece_count; i++) {
        kv_extent *piece = &record->pieces[i];

        piece->slab_class = random_below(class_max);
        piece->size = kv_slab_class_size(piece->slab_class);
        piece->offset = (random_next() >> 24) % ((1ull << 40) - (1u << 17)) * KV_SLAB_UNIT;
        record->size += i + 1 < piece_count ? piece->size : 1 + random_below(piece->size);
    }
}

static inline void fill_packed(kv_record *record)
{
    fill_value(record, KV_RECORD_SET, 1);
    record->flags |= KV_RECORD_FLAG_PACKED;
    record->size = 1 + random_below(3000);
    record->pieces[0].slab_class = KV_SLAB_CLASS_PACK;
    record->pieces[0].size = (record->size + 63) / 64 * 64;
}

static inline void fill_plain(kv_record *record, kv_record_kind kind)
{
    memset(record, 0, sizeof(*record));
    record->kind = kind;
    if (kind == KV_RECORD_OPEN)
        record->expiry_ms = random_next();
    else if (kind != KV_RECORD_CLOSE)
        fill_key(record);
    if (kind == KV_RECORD_DELETE)
        record->flags = (const uint8_t[]){0, KV_RECORD_FLAG_EXPIRED,
                                          KV_RECORD_FLAG_EVICTED}[random_below(3)];
}

static inline void fill_random(kv_record *record)
{
    switch (random_below(8)) {
    case 0: fill_value(record, KV_RECORD_SET, random_below(3)); break;
    case 1: fill_value(record, KV_RECORD_MOVE, random_below(KV_SLAB_PIECES_MAX + 1)); break;
    case 2: fill_packed(record); break;
    case 3: fill_plain(record, KV_RECORD_DELETE); break;
    case 4: fill_plain(record, KV_RECORD_PIN); break;
    case 5: fill_plain(record, KV_RECORD_UNPIN); break;
    case 6: fill_plain(record, KV_RECORD_OPEN); break;
    default: fill_plain(record, KV_RECORD_CLOSE);
    }
}

static inline void assert_equal(const kv_record *expected, const kv_record *actual)
{
    assert(expected->kind == actual->kind);
    assert(expected->flags == actual->flags);
    assert(expected->key_size == actual->key_size);
    assert(expected->size == actual->size);
    assert(expected->checksum == actual->checksum);
    assert(expected->expiry_ms == actual->expiry_ms);
    assert(expected->sequence_of == actual->sequence_of);
    assert(expected->version == actual->version);
    assert((expected->key == NULL) == (actual->key == NULL));
    assert(expected->key_size == 0 || memcmp(expected->key, actual->key, actual->key_size) == 0);
    assert(expected->piece_count == actual->piece_count);
    for (uint32_t i = 0; i < expected->piece_count; i++) {
        assert(expected->pieces[i].offset == actual->pieces[i].offset);
        assert(expected->pieces[i].size == actual->pieces[i].size);
        assert(expected->pieces[i].slab_class == actual->pieces[i].slab_class);
    }
}

/* A SET with two pieces of 4096 bytes, 5000 of them used, and the bytes "key" for key. */
static inline size_t encode_example(uint8_t bytes[KV_RECORD_SIZE_MAX])
{
    static kv_record record;

    memset(&record, 0, sizeof(record));
    record = (kv_record){.kind = KV_RECORD_SET, .key_size = 3, .size = 5000, .key = "key"};
    record.piece_count = 2;
    record.pieces[0] = (kv_extent){1u << 20, 4096, 31};
    record.pieces[1] = (kv_extent){2u << 20, 4096, 31};
    return kv_record_encode(&record, bytes);
}

/* Bytes to overwrite in something legal, so that it no longer is. */
typedef struct hostile_change {
    size_t at, width;
    uint64_t value;
} hostile_change;

#endif
