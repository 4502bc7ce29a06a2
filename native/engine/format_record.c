/* Journal and checkpoint records.
 *
 * A record that decodes encodes to the same bytes again: there is one way to write each record,
 * and nothing in it is ignored. Encode and decode share one definition of what is legal, asserted
 * before bytes leave and checked when they come back. Damage is found by the checksum of the group
 * around the record; what is refused here has the right checksum and is wrong all the same. */

#include "bytes/endian.h"
#include "engine/format.h"
#include "engine/object.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Offsets of a SET or MOVE; the other kinds share the first four bytes. */
enum {
    AT_KIND = 0,
    AT_FLAGS = 1,
    AT_KEY_SIZE = 2,
    AT_SIZE = 4,
    AT_CHECKSUM = 8,
    AT_EXPIRY = 12,
    AT_PIECE_COUNT = 20,
    AT_SEQUENCE_OF = 22
};

enum {
    VALUE_HEAD_SIZE = AT_SEQUENCE_OF,
    SEQUENCE_SIZE = 8,
    VERSION_SIZE = 8,
    KEY_HEAD_SIZE = 4,
    AT_INCARNATION = 2,
    OPEN_SIZE = 10,
    CLOSE_SIZE = 2
};

_Static_assert(KV_RECORD_SIZE_MIN == CLOSE_SIZE, "CLOSE is the smallest record");
_Static_assert(KV_RECORD_SIZE_MAX == VALUE_HEAD_SIZE + SEQUENCE_SIZE + VERSION_SIZE + KV_KEY_SIZE_MAX +
                                         KV_PIECE_SIZE * KV_SLAB_PIECES_MAX,
               "a MOVE of an object with a version, with the longest key and all pieces is the largest record");
_Static_assert(KV_PIECE_OFFSET_BITS == 40 + 6 && KV_SLAB_UNIT == 1u << 6,
               "an offset in units fills the five bytes it is stored in");
_Static_assert(KV_OBJECT_LOCATION_BITS == 40, "what a record can name an object can hold");

static bool carries_value(kv_record_kind kind)
{
    return kind == KV_RECORD_SET || kind == KV_RECORD_MOVE;
}

static bool carries_key(kv_record_kind kind)
{
    return kind >= KV_RECORD_SET && kind <= KV_RECORD_MOVE;
}

/* What is left of an expiry after an object held it. */
static uint64_t expiry_held(uint64_t expiry_ms)
{
    kv_object object = {0};

    kv_object_set_expiry_ms(&object, expiry_ms);
    return kv_object_expiry_ms(&object);
}

static bool flags_legal(kv_record_kind kind, uint8_t flags)
{
    if (carries_value(kind))
        return (flags & ~(KV_RECORD_FLAG_PINNED | KV_RECORD_FLAG_PACKED)) == 0;
    if (kind == KV_RECORD_DELETE)
        return flags == 0 || flags == KV_RECORD_FLAG_EXPIRED || flags == KV_RECORD_FLAG_EVICTED;
    return flags == 0;
}

/* Bytes an extent of that class takes for a value of `size` bytes; 0 where the class is illegal. */
static uint32_t piece_size(uint32_t slab_class, uint32_t size, bool packed)
{
    if (!packed)
        return kv_slab_class_size(slab_class);
    if (slab_class != KV_SLAB_CLASS_PACK)
        return 0;
    return (size + KV_SLAB_UNIT - 1) & ~(KV_SLAB_UNIT - 1);
}

static bool piece_legal(const kv_extent *piece, uint32_t size, bool packed)
{
    if (piece->size == 0 || piece->size != piece_size(piece->slab_class, size, packed))
        return false;
    if (piece->offset % KV_SLAB_UNIT != 0 || piece->offset >> KV_PIECE_OFFSET_BITS != 0)
        return false;
    return piece->offset + piece->size <= 1ull << KV_PIECE_OFFSET_BITS;
}

/* The value fills every piece but the last and ends in the last. */
static bool pieces_legal(const kv_record *record)
{
    bool packed = (record->flags & KV_RECORD_FLAG_PACKED) != 0;
    uint64_t room = 0;

    if (record->piece_count > KV_SLAB_PIECES_MAX || (packed && record->piece_count != 1))
        return false;
    for (uint32_t i = 0; i < record->piece_count; i++) {
        if (room >= record->size || !piece_legal(&record->pieces[i], record->size, packed))
            return false;
        room += record->pieces[i].size;
    }
    return room >= record->size;
}

static bool record_legal(const kv_record *record)
{
    if (!flags_legal(record->kind, record->flags))
        return false;
    if (carries_key(record->kind) && (record->key_size == 0 || record->key_size > KV_KEY_SIZE_MAX))
        return false;
    if (!carries_value(record->kind))
        return record->kind >= KV_RECORD_SET && record->kind <= KV_RECORD_CLOSE;
    if (record->kind == KV_RECORD_MOVE && record->sequence_of == 0)
        return false;
    if (record->sequence_of >> KV_OBJECT_SEQUENCE_BITS != 0 ||
        record->version >> KV_OBJECT_VERSION_BITS != 0)
        return false;
    return record->size <= KV_VALUE_SIZE_MAX && pieces_legal(record);
}

static size_t value_head_size(const kv_record *record)
{
    return VALUE_HEAD_SIZE + (size_t)(record->sequence_of ? SEQUENCE_SIZE : 0) +
           (size_t)(record->version ? VERSION_SIZE : 0);
}

size_t kv_record_size(const kv_record *record)
{
    if (carries_value(record->kind))
        return value_head_size(record) + record->key_size +
               (size_t)KV_PIECE_SIZE * record->piece_count;
    if (carries_key(record->kind))
        return KEY_HEAD_SIZE + (size_t)record->key_size;
    return record->kind == KV_RECORD_OPEN ? OPEN_SIZE : CLOSE_SIZE;
}

static size_t value_encode(const kv_record *record, uint8_t *bytes)
{
    size_t at = value_head_size(record);

    if (record->sequence_of) {
        bytes[AT_FLAGS] |= KV_RECORD_FLAG_SEQUENCED;
        kv_endian_store_u64(bytes + AT_SEQUENCE_OF, record->sequence_of);
    }
    if (record->version) {
        bytes[AT_FLAGS] |= KV_RECORD_FLAG_VERSIONED;
        kv_endian_store_u64(bytes + at - VERSION_SIZE, record->version);
    }
    kv_endian_store_u16(bytes + AT_KEY_SIZE, record->key_size);
    kv_endian_store_u32(bytes + AT_SIZE, record->size);
    kv_endian_store_u32(bytes + AT_CHECKSUM, record->checksum);
    kv_endian_store_u64(bytes + AT_EXPIRY, expiry_held(record->expiry_ms));
    kv_endian_store_u16(bytes + AT_PIECE_COUNT, record->piece_count);
    memcpy(bytes + at, record->key, record->key_size);
    at += record->key_size;
    for (uint32_t i = 0; i < record->piece_count; i++, at += KV_PIECE_SIZE) {
        kv_endian_store_u40(bytes + at, record->pieces[i].offset / KV_SLAB_UNIT);
        bytes[at + KV_ENDIAN_U40_SIZE] = (uint8_t)record->pieces[i].slab_class;
    }
    return at;
}

static size_t key_encode(const kv_record *record, uint8_t *bytes)
{
    kv_endian_store_u16(bytes + AT_KEY_SIZE, record->key_size);
    memcpy(bytes + KEY_HEAD_SIZE, record->key, record->key_size);
    return KEY_HEAD_SIZE + (size_t)record->key_size;
}

size_t kv_record_encode(const kv_record *record, void *target)
{
    uint8_t *bytes = target;
    size_t size = CLOSE_SIZE;

    assert(record_legal(record));

    bytes[AT_KIND] = (uint8_t)record->kind;
    bytes[AT_FLAGS] = record->flags;
    if (carries_value(record->kind)) {
        size = value_encode(record, bytes);
    } else if (carries_key(record->kind)) {
        size = key_encode(record, bytes);
    } else if (record->kind == KV_RECORD_OPEN) {
        kv_endian_store_u64(bytes + AT_INCARNATION, record->expiry_ms);
        size = OPEN_SIZE;
    }
    assert(size == kv_record_size(record));
    return size;
}

static void pieces_load(const uint8_t *bytes, kv_record *record)
{
    bool packed = (record->flags & KV_RECORD_FLAG_PACKED) != 0;

    for (uint32_t i = 0; i < record->piece_count; i++, bytes += KV_PIECE_SIZE) {
        kv_extent *piece = &record->pieces[i];

        piece->offset = kv_endian_load_u40(bytes) * KV_SLAB_UNIT;
        piece->slab_class = bytes[KV_ENDIAN_U40_SIZE];
        piece->size = piece_size(piece->slab_class, record->size, packed);
    }
}

/* A u64 that is there with a flag alone, and then is not 0. *at moves behind it. */
static bool optional_load(const uint8_t *bytes, size_t size, kv_record *record, uint8_t flag, size_t *at,
                          uint64_t *number)
{
    if (!(record->flags & flag))
        return true;
    if (size - *at < sizeof(*number))
        return false;
    record->flags &= (uint8_t)~flag;
    *number = kv_endian_load_u64(bytes + *at);
    *at += sizeof(*number);
    return *number != 0;
}

/* Each count is bounded before it moves a pointer; what the fields say is judged by the caller. */
static bool value_load(const uint8_t *bytes, size_t size, kv_record *record)
{
    size_t at = VALUE_HEAD_SIZE;

    if (size < VALUE_HEAD_SIZE)
        return false;
    if (!optional_load(bytes, size, record, KV_RECORD_FLAG_SEQUENCED, &at, &record->sequence_of) ||
        !optional_load(bytes, size, record, KV_RECORD_FLAG_VERSIONED, &at, &record->version))
        return false;
    record->key_size = kv_endian_load_u16(bytes + AT_KEY_SIZE);
    record->size = kv_endian_load_u32(bytes + AT_SIZE);
    record->checksum = kv_endian_load_u32(bytes + AT_CHECKSUM);
    record->expiry_ms = kv_endian_load_u64(bytes + AT_EXPIRY);
    record->piece_count = kv_endian_load_u16(bytes + AT_PIECE_COUNT);
    if (record->piece_count > KV_SLAB_PIECES_MAX)
        return false;
    if (record->expiry_ms != expiry_held(record->expiry_ms) || size < kv_record_size(record))
        return false;
    record->key = bytes + at;
    pieces_load(bytes + at + record->key_size, record);
    return true;
}

static bool key_load(const uint8_t *bytes, size_t size, kv_record *record)
{
    if (size < KEY_HEAD_SIZE)
        return false;
    record->key_size = kv_endian_load_u16(bytes + AT_KEY_SIZE);
    record->key = bytes + KEY_HEAD_SIZE;
    return size >= kv_record_size(record);
}

static bool open_load(const uint8_t *bytes, size_t size, kv_record *record)
{
    if (size < OPEN_SIZE)
        return false;
    record->expiry_ms = kv_endian_load_u64(bytes + AT_INCARNATION);
    return true;
}

int64_t kv_record_decode(const void *source, size_t size, kv_record *record)
{
    const uint8_t *bytes = source;
    bool loaded = true;

    if (size < CLOSE_SIZE)
        return -EBADMSG;
    /* Field by field: the array of pieces is 4 KiB, too much to clear for each record. */
    record->kind = (kv_record_kind)bytes[AT_KIND];
    record->flags = bytes[AT_FLAGS];
    record->key_size = 0;
    record->piece_count = 0;
    record->size = 0;
    record->checksum = 0;
    record->expiry_ms = 0;
    record->sequence_of = 0;
    record->version = 0;
    record->key = NULL;

    if (carries_value(record->kind))
        loaded = value_load(bytes, size, record);
    else if (carries_key(record->kind))
        loaded = key_load(bytes, size, record);
    else if (record->kind == KV_RECORD_OPEN)
        loaded = open_load(bytes, size, record);
    return loaded && record_legal(record) ? (int64_t)kv_record_size(record) : -EBADMSG;
}
