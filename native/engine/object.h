/* What the index keeps for each object, followed by the key's bytes.
 *
 *   byte  0          6         8          12     16         21       26        28
 *         +----------+---------+----------+------+----------+--------+---------+- - -
 *         | sequence | version | checksum | size | location | expiry | holders | ...
 *         |          | 32 - 47 |          |      |          |        |         |
 *         +----------+---------+----------+------+----------+--------+---------+- - -
 *
 * 48 bytes and the key: with the index slot (10 to 11 bytes) and rounding to 8 bytes (3.5 on average) an
 * object takes 64 bytes + key, and at the worst size of keys 3 more. Every bit is in use: the version
 * lies where others left room. Fields are only read and written under the engine's lock. */
#ifndef KV_OBJECT_H
#define KV_OBJECT_H

#include <stdint.h>

#define KV_OBJECT_LOCATION_BITS 40 /* in units of 64 bytes: 64 TiB of slabs */
#define KV_OBJECT_EXPIRY_BITS 40   /* milliseconds since 1970-01-01 minus KV_OBJECT_EXPIRY_BASE_MS */
#define KV_OBJECT_EXPIRY_BASE_MS 1700000000000ull
#define KV_OBJECT_SEQUENCE_BITS 48 /* of the journal: a million updates a second for 8 years */
#define KV_OBJECT_VERSION_BITS 63  /* in a chain; see kv_version */

typedef struct kv_object {
    uint32_t sequence_low; /* journal sequence of the update that made this object */
    uint32_t sequence_high : 16;
    uint32_t version_middle : 16; /* bits 32 ... 47 */
    uint32_t checksum;   /* CRC-32C of the value */
    uint32_t size : 27;  /* of the value, 0 ... 64 MiB */
    uint32_t scattered : 1; /* location is the arena handle of a piece list, not an extent */
    uint32_t pinned : 1;
    uint32_t dead : 1;   /* unlinked from the index; freed when its last holder lets go */
    uint32_t stored : 1; /* the value is on the device (a set at durability memory may still be on its way) */
    uint32_t packed : 1; /* the extent is a byte range of a pack slab */
    uint32_t location_low;
    uint32_t location_high : 8;
    uint32_t expiry_high : 8; /* expiry 0: never */
    uint32_t holders : 16;    /* operations that use this object now */
    uint32_t expiry_low;
    uint32_t frame; /* handle of the DRAM tier's frame, 0 when not cached */
    uint32_t queue_next; /* eviction queue of cache mode, by handle */
    uint32_t queue_previous;
    uint32_t key_size : 11; /* 1 ... KV_KEY_SIZE_MAX */
    uint32_t queue : 3;     /* which eviction queue it is on, 0 none */
    uint32_t frequency : 2; /* eviction policy */
    uint32_t epoch : 1;     /* not stored yet: parity of the one in which a flush waits for it */
    uint32_t version_high : 15; /* bits 48 ... 62 */
    uint32_t version_low;
    uint8_t key[];
} kv_object;

_Static_assert(sizeof(kv_object) == 48, "the memory budget of an object is 64 bytes + key on average");

static inline uint64_t kv_object_sequence(const kv_object *object)
{
    return (uint64_t)object->sequence_high << 32 | object->sequence_low;
}

static inline void kv_object_set_sequence(kv_object *object, uint64_t sequence)
{
    object->sequence_low = (uint32_t)sequence;
    object->sequence_high = (uint32_t)(sequence >> 32) & 0xffff;
}

/* Version of an object of a chain; 0: it has none. */
static inline uint64_t kv_object_version(const kv_object *object)
{
    return (uint64_t)object->version_high << 48 | (uint64_t)object->version_middle << 32 |
           object->version_low;
}

static inline void kv_object_set_version(kv_object *object, uint64_t version)
{
    object->version_low = (uint32_t)version;
    object->version_middle = (uint32_t)(version >> 32) & 0xffff;
    object->version_high = (uint32_t)(version >> 48) & 0x7fff;
}

/* What clients are told: the version, and the sequence of an object without one. */
static inline uint64_t kv_object_version_told(const kv_object *object)
{
    uint64_t version = kv_object_version(object);

    return version ? version : kv_object_sequence(object);
}

static inline uint64_t kv_object_location(const kv_object *object)
{
    return (uint64_t)object->location_high << 32 | object->location_low;
}

static inline void kv_object_set_location(kv_object *object, uint64_t location)
{
    object->location_low = (uint32_t)location;
    object->location_high = (uint32_t)(location >> 32) & 0xff;
}

/* Unix time in milliseconds, 0 when the object never expires. */
static inline uint64_t kv_object_expiry_ms(const kv_object *object)
{
    uint64_t expiry = (uint64_t)object->expiry_high << 32 | object->expiry_low;

    return expiry ? expiry + KV_OBJECT_EXPIRY_BASE_MS : 0;
}

static inline void kv_object_set_expiry_ms(kv_object *object, uint64_t expiry_ms)
{
    uint64_t expiry = 0;

    if (expiry_ms)
        expiry = expiry_ms > KV_OBJECT_EXPIRY_BASE_MS ? expiry_ms - KV_OBJECT_EXPIRY_BASE_MS : 1;
    if (expiry >> KV_OBJECT_EXPIRY_BITS)
        expiry = 0; /* beyond the year 2058: never */
    object->expiry_low = (uint32_t)expiry;
    object->expiry_high = (uint32_t)(expiry >> 32) & 0xff;
}

#endif
