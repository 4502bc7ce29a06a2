/* Little-endian integers at any address, whatever the machine's own byte order and alignment.
 *
 * A load or store is one instruction where the machine is little-endian: the compiler sees through
 * the memcpy. The caller guarantees that the bytes are there. */
#ifndef KV_ENDIAN_H
#define KV_ENDIAN_H

#include <stdint.h>
#include <string.h>

#define KV_ENDIAN_U40_SIZE 5u

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define KV_ENDIAN_SWAPPED 0
#else
#define KV_ENDIAN_SWAPPED 1
#endif

static inline uint16_t kv_endian_load_u16(const void *source)
{
    uint16_t value;

    memcpy(&value, source, sizeof(value));
    return KV_ENDIAN_SWAPPED ? __builtin_bswap16(value) : value;
}

static inline uint32_t kv_endian_load_u32(const void *source)
{
    uint32_t value;

    memcpy(&value, source, sizeof(value));
    return KV_ENDIAN_SWAPPED ? __builtin_bswap32(value) : value;
}

static inline uint64_t kv_endian_load_u64(const void *source)
{
    uint64_t value;

    memcpy(&value, source, sizeof(value));
    return KV_ENDIAN_SWAPPED ? __builtin_bswap64(value) : value;
}

/* Five bytes; reads no sixth. */
static inline uint64_t kv_endian_load_u40(const void *source)
{
    const uint8_t *bytes = source;

    return (uint64_t)bytes[4] << 32 | kv_endian_load_u32(bytes);
}

static inline void kv_endian_store_u16(void *target, uint16_t value)
{
    if (KV_ENDIAN_SWAPPED)
        value = __builtin_bswap16(value);
    memcpy(target, &value, sizeof(value));
}

static inline void kv_endian_store_u32(void *target, uint32_t value)
{
    if (KV_ENDIAN_SWAPPED)
        value = __builtin_bswap32(value);
    memcpy(target, &value, sizeof(value));
}

static inline void kv_endian_store_u64(void *target, uint64_t value)
{
    if (KV_ENDIAN_SWAPPED)
        value = __builtin_bswap64(value);
    memcpy(target, &value, sizeof(value));
}

/* The low 40 bits; writes no sixth byte. */
static inline void kv_endian_store_u40(void *target, uint64_t value)
{
    uint8_t *bytes = target;

    kv_endian_store_u32(bytes, (uint32_t)value);
    bytes[4] = (uint8_t)(value >> 32);
}

#endif
