/* CRC-32C (Castagnoli, reflected, complemented before and after): the public functions, the choice
 * of an implementation at run time, and the portable implementation.
 * Guarantees that every implementation gives the same checksums and copies; the ones for particular
 * processors live in checksum_<processor>.c. */

#include "bytes/checksum.h"

#include "bytes/checksum_kinds.h"
#include "kvcore.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define POLYNOMIAL_REFLECTED 0x82F63B78u

/* Tables that take eight bytes a step, and how much of a copy is checksummed before it is copied:
 * little enough to be in the first-level cache still. */
#define SLICES 8
#define COPY_TILE_SIZE 8192
#define COPY_AHEAD_SIZE 1024

/* slices[n][byte] is the checksum of that byte followed by n zero bytes. */
static uint32_t slices[SLICES][256];
static pthread_once_t slices_once = PTHREAD_ONCE_INIT;

static void slices_fill(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t sum = byte;

        for (int bit = 0; bit < 8; bit++)
            sum = (sum >> 1) ^ (POLYNOMIAL_REFLECTED & (0u - (sum & 1)));
        slices[0][byte] = sum;
    }
    for (int n = 1; n < SLICES; n++)
        for (uint32_t byte = 0; byte < 256; byte++)
            slices[n][byte] = (slices[n - 1][byte] >> 8) ^ slices[0][slices[n - 1][byte] & 255];
}

static uint32_t load_u32_little(const uint8_t *data)
{
    return (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
           (uint32_t)data[3] << 24;
}

/* The eight lookups do not wait for each other, so a step takes about as long as one of them.
 * Source: Kounavis and Berry, "Novel table lookup-based algorithms for high-performance CRC
 * generation". */
static uint32_t portable_update(uint32_t sum, const uint8_t *data, size_t size)
{
    pthread_once(&slices_once, slices_fill);

    for (; size >= SLICES; size -= SLICES, data += SLICES) {
        uint32_t low = load_u32_little(data) ^ sum;
        uint32_t high = load_u32_little(data + 4);

        sum = slices[7][low & 255] ^ slices[6][low >> 8 & 255] ^ slices[5][low >> 16 & 255] ^
              slices[4][low >> 24] ^ slices[3][high & 255] ^ slices[2][high >> 8 & 255] ^
              slices[1][high >> 16 & 255] ^ slices[0][high >> 24];
    }
    for (; size > 0; size--, data++)
        sum = (sum >> 8) ^ slices[0][(sum ^ *data) & 255];
    return sum;
}

static bool portable_available(void)
{
    return true;
}

static const kv_checksum_code portable = {
    .name = "portable",
    .available = portable_available,
    .update = portable_update,
};

const kv_checksum_code *const kv_checksum_kinds[] = {
#if defined(__x86_64__)
    &kv_checksum_x86_512,
    &kv_checksum_x86_256,
    &kv_checksum_x86_sse42,
#endif
    &portable,
};

const size_t kv_checksum_kinds_count = sizeof(kv_checksum_kinds) / sizeof(kv_checksum_kinds[0]);

/* The choice is made at first use. Threads that race make the same one, and it points at
 * constants, so that there is nothing to order: relaxed loads and stores pair with each other. */
static const kv_checksum_code *chosen(void)
{
    static _Atomic(const kv_checksum_code *) choice;
    const kv_checksum_code *code = atomic_load_explicit(&choice, memory_order_relaxed);

    if (code != NULL)
        return code;

    size_t kind = 0;
    while (kind < kv_checksum_kinds_count - 1 && !kv_checksum_kinds[kind]->available())
        kind++;
    code = kv_checksum_kinds[kind];
    assert(code->available());
    atomic_store_explicit(&choice, code, memory_order_relaxed);
    return code;
}

/* Reading a tile for its checksum brings it into the first-level cache, where memcpy finds it. */
static uint32_t copy_by_tiles(const kv_checksum_code *code, uint32_t sum, uint8_t *target,
                              const uint8_t *source, size_t size)
{
    for (size_t offset = 0; offset < size; offset += COPY_TILE_SIZE) {
        size_t left = size - offset;
        size_t tile_size = left < COPY_TILE_SIZE ? left : COPY_TILE_SIZE;

        sum = code->update(sum, source + offset, tile_size);
        memcpy(target + offset, source + offset, tile_size);
    }
    return sum;
}

/* Where the copy does not ask for the next source on its way: the first lines, from where the
 * processor goes on by itself. */
static void prefetch_start(const uint8_t *next, size_t size)
{
    for (size_t at = 0; at < size && at < COPY_AHEAD_SIZE; at += KV_CHECKSUM_LINE_SIZE)
        __builtin_prefetch(next + at);
}

/* Plain stores up to the first whole line of the target, streaming stores from there. */
static uint32_t copy_streaming(const kv_checksum_code *code, uint32_t sum, uint8_t *target,
                               const uint8_t *source, size_t size, const uint8_t *next)
{
    size_t head_size = (0 - (uintptr_t)target) & (KV_CHECKSUM_LINE_SIZE - 1);

    assert(size >= KV_CHECKSUM_STREAM_SIZE);
    if (head_size > 0)
        sum = code->copy(sum, target, source, head_size);
    return code->stream(sum, target + head_size, source + head_size, size - head_size, next);
}

uint32_t kv_checksum_with(const kv_checksum_code *code, uint32_t seed, const void *data,
                          size_t size)
{
    assert(data != NULL || size == 0);
    return ~code->update(~seed, data, size);
}

uint32_t kv_checksum_copy_with(const kv_checksum_code *code, uint32_t seed, void *target,
                               const void *source, size_t size, const void *next)
{
    if (size == 0)
        return seed;

    assert((uintptr_t)target + size <= (uintptr_t)source ||
           (uintptr_t)source + size <= (uintptr_t)target);
    if (next != NULL && (code->stream == NULL || size < KV_CHECKSUM_STREAM_SIZE))
        prefetch_start(next, size);
    if (code->copy == NULL)
        return ~copy_by_tiles(code, ~seed, target, source, size);
    if (size < KV_CHECKSUM_STREAM_SIZE)
        return ~code->copy(~seed, target, source, size);
    return ~copy_streaming(code, ~seed, target, source, size, next);
}

uint32_t kv_checksum(uint32_t seed, const void *data, size_t size)
{
    return kv_checksum_with(chosen(), seed, data, size);
}

uint32_t kv_checksum_copy(uint32_t seed, void *target, const void *source, size_t size)
{
    seed = kv_checksum_copy_with(chosen(), seed, target, source, size, NULL);
    kv_checksum_settle();
    return seed;
}

uint32_t kv_checksum_copy_ahead(uint32_t seed, void *target, const void *source, size_t size,
                                const void *next)
{
    return kv_checksum_copy_with(chosen(), seed, target, source, size, next);
}

void kv_checksum_settle(void)
{
    const kv_checksum_code *code = chosen();

    if (code->settle != NULL)
        code->settle();
}

const char *kv_checksum_kind(void)
{
    return chosen()->name;
}
