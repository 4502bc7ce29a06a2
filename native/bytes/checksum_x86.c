/* CRC-32C and its fused copies on x86-64: by carry-less multiplication of 512- or 256-bit vectors,
 * or by the crc32 instruction of SSE4.2 alone.
 * Guarantees what kv_checksum_code says; whether the processor has the instructions is asked by
 * `available`, and leaves choosing to checksum.c. */

#include "bytes/checksum_kinds.h"

#if defined(__x86_64__)

#include <assert.h>
#include <immintrin.h>
#include <string.h>

/* Folding. A vector sum stands for bytes that lie n bytes before the next ones. Multiplying its
 * 64-bit halves by x^(8n+32) and x^(8n-32) mod P moves it there, and an exclusive-or merges it.
 * Each constant below is such a pair, bit-reflected as 33 bits, the earlier half's first.
 * Source: Gopal et al., "Fast CRC computation for generic polynomials using PCLMULQDQ". */
#define FOLD_16 0xf20c0dfe, 0x14cd00bd6
#define FOLD_32 0x1384aa63a, 0xba4fc28e
#define FOLD_64 0x740eef02, 0x9e4addf8
#define FOLD_128 0x6992cea2, 0xd3b6092
#define FOLD_256 0xdcb17aa4, 0xb9e02b86

/* Shifting. The register after n more zero bytes is the register times x^(8n-33) mod P, reduced
 * by the crc32 instruction. */
#define SHIFT_1K 0x170076fa
#define SHIFT_2K 0xa51b6135
#define SHIFT_16K 0x1dc403cc
#define SHIFT_32K 0x5ae703ab
#define SHIFT_48K 0x51e9168b

/* The crc32 instruction takes three cycles but starts one a cycle: three lanes keep it busy. */
#define SHORT_LANE_SIZE 1024
#define SHORT_LANES 3
#define SHORT_ROUND_SIZE (SHORT_LANES * SHORT_LANE_SIZE)

/* Where one vector unit multiplies slower than memory delivers, the crc32 instruction works beside
 * it: three lanes by the one, the fourth by the other. Four places in memory at once also keep more
 * of the hardware's prefetchers busy. */
#define LONG_LANE_SIZE 16384
#define LONG_LANES 4
#define LONG_ROUND_SIZE (LONG_LANES * LONG_LANE_SIZE)

/* Hardware prefetchers stop at each 4 KiB; asking this far ahead hides that. */
#define PREFETCH_DISTANCE 2048
#define LINE_SIZE KV_CHECKSUM_LINE_SIZE

/* Below this the crc32 instruction alone is done sooner. */
#define FOLD_SIZE_MIN 256

#define TARGET_SSE42 __attribute__((target("sse4.2,pclmul")))
#define TARGET_256 __attribute__((target("avx2,vpclmulqdq,sse4.2,pclmul")))
#define TARGET_512 __attribute__((target("avx512f,avx2,vpclmulqdq,sse4.2,pclmul")))
#define INLINE static inline __attribute__((always_inline))

/* A hint: it may name an address that is not mapped. */
INLINE void prefetch(const uint8_t *data)
{
    _mm_prefetch((const char *)data, _MM_HINT_T0);
}

INLINE uint64_t load_u64(const uint8_t *data)
{
    uint64_t word;

    memcpy(&word, data, sizeof(word));
    return word;
}

TARGET_SSE42 INLINE uint32_t update_serial(uint32_t sum, const uint8_t *data, size_t size)
{
    uint64_t wide = sum;

    for (; size >= 8; size -= 8, data += 8)
        wide = _mm_crc32_u64(wide, load_u64(data));
    sum = (uint32_t)wide;
    for (; size > 0; size--, data++)
        sum = _mm_crc32_u8(sum, *data);
    return sum;
}

/* Eight instructions without a loop between them, so that several lanes run side by side. */
TARGET_SSE42 INLINE uint64_t update_line(uint64_t sum, const uint8_t *line)
{
    sum = _mm_crc32_u64(sum, load_u64(line));
    sum = _mm_crc32_u64(sum, load_u64(line + 8));
    sum = _mm_crc32_u64(sum, load_u64(line + 16));
    sum = _mm_crc32_u64(sum, load_u64(line + 24));
    sum = _mm_crc32_u64(sum, load_u64(line + 32));
    sum = _mm_crc32_u64(sum, load_u64(line + 40));
    sum = _mm_crc32_u64(sum, load_u64(line + 48));
    return _mm_crc32_u64(sum, load_u64(line + 56));
}

/* Reduced by the caller: products of several lanes merge before one reduction. */
TARGET_SSE42 INLINE uint64_t shift(uint64_t sum, uint32_t constant)
{
    __m128i factor = _mm_cvtsi32_si128((int)constant);

    return (uint64_t)_mm_cvtsi128_si64(
        _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)sum), factor, 0));
}

TARGET_SSE42 static uint32_t update_sse42(uint32_t sum, const uint8_t *data, size_t size)
{
    for (; size >= SHORT_ROUND_SIZE; size -= SHORT_ROUND_SIZE, data += SHORT_ROUND_SIZE) {
        uint64_t first = sum, second = 0, third = 0;

        for (size_t i = 0; i < SHORT_LANE_SIZE; i += LINE_SIZE) {
            for (size_t lane = 0; lane < SHORT_LANES; lane++)
                prefetch(data + SHORT_ROUND_SIZE + lane * SHORT_LANE_SIZE + i);
            first = update_line(first, data + i);
            second = update_line(second, data + SHORT_LANE_SIZE + i);
            third = update_line(third, data + 2 * SHORT_LANE_SIZE + i);
        }
        first = _mm_crc32_u64(0, shift(first, SHIFT_2K) ^ shift(second, SHIFT_1K));
        sum = (uint32_t)(first ^ third);
    }
    return update_serial(sum, data, size);
}

TARGET_SSE42 INLINE __m128i fold_part_128(__m128i sum, __m128i next, int64_t early, int64_t late)
{
    __m128i factors = _mm_set_epi64x(late, early);
    __m128i low = _mm_clmulepi64_si128(sum, factors, 0x00);
    __m128i high = _mm_clmulepi64_si128(sum, factors, 0x11);

    return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

TARGET_SSE42 INLINE uint32_t finish_part_128(__m128i sum)
{
    uint64_t early = (uint64_t)_mm_cvtsi128_si64(sum);
    uint64_t late = (uint64_t)_mm_extract_epi64(sum, 1);

    return (uint32_t)_mm_crc32_u64(_mm_crc32_u64(0, early), late);
}

/* What is asked for meanwhile: what comes next, or the same bytes some way ahead. Small values would
 * spend bandwidth on their neighbours past the end, so it goes no further than the last byte. */
typedef struct lookahead {
    const uint8_t *data;
    size_t last;
} lookahead;

INLINE lookahead look_ahead(const uint8_t *source, size_t size, const uint8_t *next)
{
    if (next != NULL)
        return (lookahead){.data = next, .last = size - 1};
    if (size <= PREFETCH_DISTANCE)
        return (lookahead){.data = source, .last = size - 1};
    return (lookahead){.data = source + PREFETCH_DISTANCE, .last = size - PREFETCH_DISTANCE - 1};
}

INLINE void prefetch_ahead(lookahead ahead, size_t offset, size_t step_size)
{
    for (size_t line = 0; line < step_size; line += LINE_SIZE) {
        size_t at = offset + line;

        prefetch(ahead.data + (at < ahead.last ? at : ahead.last));
    }
}

/* 256-bit vectors: four of them, 128 bytes, are one step, so that multiplications overlap. */

typedef struct step_256 {
    __m256i a, b, c, d;
} step_256;

typedef void put_256(uint8_t *target, step_256 step);

#define STEP_256_SIZE sizeof(step_256)

TARGET_256 INLINE step_256 load_256(const uint8_t *source)
{
    const __m256i_u *parts = (const __m256i_u *)source;

    return (step_256){_mm256_loadu_si256(parts), _mm256_loadu_si256(parts + 1),
                      _mm256_loadu_si256(parts + 2), _mm256_loadu_si256(parts + 3)};
}

TARGET_256 INLINE void store_256(uint8_t *target, step_256 step)
{
    __m256i_u *parts = (__m256i_u *)target;

    _mm256_storeu_si256(parts, step.a);
    _mm256_storeu_si256(parts + 1, step.b);
    _mm256_storeu_si256(parts + 2, step.c);
    _mm256_storeu_si256(parts + 3, step.d);
}

TARGET_256 INLINE void stream_256(uint8_t *target, step_256 step)
{
    __m256i *parts = (__m256i *)target;

    _mm256_stream_si256(parts, step.a);
    _mm256_stream_si256(parts + 1, step.b);
    _mm256_stream_si256(parts + 2, step.c);
    _mm256_stream_si256(parts + 3, step.d);
}

TARGET_256 INLINE __m256i fold_part_256(__m256i sum, __m256i next, int64_t early, int64_t late)
{
    __m256i factors = _mm256_set_epi64x(late, early, late, early);
    __m256i low = _mm256_clmulepi64_epi128(sum, factors, 0x00);
    __m256i high = _mm256_clmulepi64_epi128(sum, factors, 0x11);

    return _mm256_xor_si256(_mm256_xor_si256(low, high), next);
}

TARGET_256 INLINE step_256 fold_256(step_256 sum, step_256 next)
{
    sum.a = fold_part_256(sum.a, next.a, FOLD_128);
    sum.b = fold_part_256(sum.b, next.b, FOLD_128);
    sum.c = fold_part_256(sum.c, next.c, FOLD_128);
    sum.d = fold_part_256(sum.d, next.d, FOLD_128);
    return sum;
}

TARGET_256 INLINE step_256 begin_256(uint32_t sum, step_256 step)
{
    __m256i wide = _mm256_zextsi128_si256(_mm_cvtsi32_si128((int)sum));

    step.a = _mm256_xor_si256(step.a, wide);
    return step;
}

TARGET_256 INLINE uint32_t finish_part_256(__m256i sum)
{
    return finish_part_128(fold_part_128(_mm256_castsi256_si128(sum),
                                         _mm256_extracti128_si256(sum, 1), FOLD_16));
}

TARGET_256 INLINE uint32_t finish_256(step_256 sum)
{
    sum.b = fold_part_256(sum.a, sum.b, FOLD_32);
    sum.c = fold_part_256(sum.b, sum.c, FOLD_32);
    sum.d = fold_part_256(sum.c, sum.d, FOLD_32);
    return finish_part_256(sum.d);
}

/* One round over four long lanes; returns the register after them. */
TARGET_256 static uint32_t update_long_lanes(uint32_t sum, const uint8_t *data)
{
    const uint8_t *fourth_data = data + 3 * LONG_LANE_SIZE;
    uint64_t first = sum, second = 0, third = 0;
    step_256 fourth = load_256(fourth_data);

    for (size_t i = 0; i < LONG_LANE_SIZE; i += STEP_256_SIZE) {
        /* The fourth lane's first step has no predecessor: it was loaded above. */
        if (i > 0)
            fourth = fold_256(fourth, load_256(fourth_data + i));
        for (size_t line = i; line < i + STEP_256_SIZE; line += LINE_SIZE) {
            prefetch(fourth_data + line + PREFETCH_DISTANCE);
            first = update_line(first, data + line);
            second = update_line(second, data + LONG_LANE_SIZE + line);
            third = update_line(third, data + 2 * LONG_LANE_SIZE + line);
        }
    }
    return (uint32_t)_mm_crc32_u64(0, shift(first, SHIFT_48K) ^ shift(second, SHIFT_32K) ^
                                          shift(third, SHIFT_16K)) ^
           finish_256(fourth);
}

TARGET_256 static uint32_t update_256(uint32_t sum, const uint8_t *data, size_t size)
{
    for (; size >= LONG_ROUND_SIZE; size -= LONG_ROUND_SIZE, data += LONG_ROUND_SIZE)
        sum = update_long_lanes(sum, data);
    if (size < FOLD_SIZE_MIN)
        return update_serial(sum, data, size);

    lookahead ahead = look_ahead(data, size, NULL);
    size_t offset = STEP_256_SIZE;
    step_256 whole = begin_256(sum, load_256(data));
    for (; offset + STEP_256_SIZE <= size; offset += STEP_256_SIZE) {
        prefetch_ahead(ahead, offset, STEP_256_SIZE);
        whole = fold_256(whole, load_256(data + offset));
    }
    return update_serial(finish_256(whole), data + offset, size - offset);
}

/* The copy of at least one step, every whole one put by `put`. */
TARGET_256 INLINE uint32_t copy_steps_256(uint32_t sum, uint8_t *target, const uint8_t *source,
                                         size_t size, lookahead ahead, put_256 *put)
{
    size_t offset = STEP_256_SIZE;
    step_256 step = load_256(source);
    step_256 whole = begin_256(sum, step);

    assert(size >= STEP_256_SIZE);
    put(target, step);
    prefetch_ahead(ahead, 0, STEP_256_SIZE);
    for (; offset + STEP_256_SIZE <= size; offset += STEP_256_SIZE) {
        prefetch_ahead(ahead, offset, STEP_256_SIZE);
        step = load_256(source + offset);
        put(target + offset, step);
        whole = fold_256(whole, step);
    }
    memcpy(target + offset, source + offset, size - offset);
    return update_serial(finish_256(whole), source + offset, size - offset);
}

TARGET_256 static uint32_t copy_256(uint32_t sum, uint8_t *target, const uint8_t *source,
                                    size_t size)
{
    if (size < FOLD_SIZE_MIN) {
        memcpy(target, source, size);
        return update_serial(sum, source, size);
    }
    return copy_steps_256(sum, target, source, size, look_ahead(source, size, NULL), store_256);
}

TARGET_256 static uint32_t stream_copy_256(uint32_t sum, uint8_t *target, const uint8_t *source,
                                           size_t size, const uint8_t *next)
{
    assert((uintptr_t)target % LINE_SIZE == 0);
    return copy_steps_256(sum, target, source, size, look_ahead(source, size, next), stream_256);
}

/* 512-bit vectors: the same with twice the width. A lane of crc32 instructions beside these would
 * only slow them down. */

typedef struct step_512 {
    __m512i a, b, c, d;
} step_512;

typedef void put_512(uint8_t *target, step_512 step);

#define STEP_512_SIZE sizeof(step_512)

TARGET_512 INLINE step_512 load_512(const uint8_t *source)
{
    const __m512i_u *parts = (const __m512i_u *)source;

    return (step_512){_mm512_loadu_si512(parts), _mm512_loadu_si512(parts + 1),
                      _mm512_loadu_si512(parts + 2), _mm512_loadu_si512(parts + 3)};
}

TARGET_512 INLINE void store_512(uint8_t *target, step_512 step)
{
    __m512i_u *parts = (__m512i_u *)target;

    _mm512_storeu_si512(parts, step.a);
    _mm512_storeu_si512(parts + 1, step.b);
    _mm512_storeu_si512(parts + 2, step.c);
    _mm512_storeu_si512(parts + 3, step.d);
}

TARGET_512 INLINE void stream_512(uint8_t *target, step_512 step)
{
    __m512i *parts = (__m512i *)target;

    _mm512_stream_si512(parts, step.a);
    _mm512_stream_si512(parts + 1, step.b);
    _mm512_stream_si512(parts + 2, step.c);
    _mm512_stream_si512(parts + 3, step.d);
}

TARGET_512 INLINE __m512i fold_part_512(__m512i sum, __m512i next, int64_t early, int64_t late)
{
    __m512i factors = _mm512_set_epi64(late, early, late, early, late, early, late, early);
    __m512i low = _mm512_clmulepi64_epi128(sum, factors, 0x00);
    __m512i high = _mm512_clmulepi64_epi128(sum, factors, 0x11);

    return _mm512_xor_si512(_mm512_xor_si512(low, high), next);
}

TARGET_512 INLINE step_512 fold_512(step_512 sum, step_512 next)
{
    sum.a = fold_part_512(sum.a, next.a, FOLD_256);
    sum.b = fold_part_512(sum.b, next.b, FOLD_256);
    sum.c = fold_part_512(sum.c, next.c, FOLD_256);
    sum.d = fold_part_512(sum.d, next.d, FOLD_256);
    return sum;
}

TARGET_512 INLINE step_512 begin_512(uint32_t sum, step_512 step)
{
    __m512i wide = _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)sum));

    step.a = _mm512_xor_si512(step.a, wide);
    return step;
}

TARGET_512 INLINE uint32_t finish_part_512(__m512i sum)
{
    return finish_part_256(fold_part_256(_mm512_castsi512_si256(sum),
                                         _mm512_extracti64x4_epi64(sum, 1), FOLD_32));
}

TARGET_512 INLINE uint32_t finish_512(step_512 sum)
{
    sum.b = fold_part_512(sum.a, sum.b, FOLD_64);
    sum.c = fold_part_512(sum.b, sum.c, FOLD_64);
    sum.d = fold_part_512(sum.c, sum.d, FOLD_64);
    return finish_part_512(sum.d);
}

TARGET_512 static uint32_t update_512(uint32_t sum, const uint8_t *data, size_t size)
{
    if (size < FOLD_SIZE_MIN)
        return update_serial(sum, data, size);

    lookahead ahead = look_ahead(data, size, NULL);
    size_t offset = STEP_512_SIZE;
    step_512 whole = begin_512(sum, load_512(data));
    for (; offset + STEP_512_SIZE <= size; offset += STEP_512_SIZE) {
        prefetch_ahead(ahead, offset, STEP_512_SIZE);
        whole = fold_512(whole, load_512(data + offset));
    }
    return update_serial(finish_512(whole), data + offset, size - offset);
}

/* The copy of at least one step, every whole one put by `put`. */
TARGET_512 INLINE uint32_t copy_steps_512(uint32_t sum, uint8_t *target, const uint8_t *source,
                                         size_t size, lookahead ahead, put_512 *put)
{
    size_t offset = STEP_512_SIZE;
    step_512 step = load_512(source);
    step_512 whole = begin_512(sum, step);

    assert(size >= STEP_512_SIZE);
    put(target, step);
    prefetch_ahead(ahead, 0, STEP_512_SIZE);
    for (; offset + STEP_512_SIZE <= size; offset += STEP_512_SIZE) {
        prefetch_ahead(ahead, offset, STEP_512_SIZE);
        step = load_512(source + offset);
        put(target + offset, step);
        whole = fold_512(whole, step);
    }
    memcpy(target + offset, source + offset, size - offset);
    return update_serial(finish_512(whole), source + offset, size - offset);
}

TARGET_512 static uint32_t copy_512(uint32_t sum, uint8_t *target, const uint8_t *source,
                                    size_t size)
{
    if (size < FOLD_SIZE_MIN) {
        memcpy(target, source, size);
        return update_serial(sum, source, size);
    }
    return copy_steps_512(sum, target, source, size, look_ahead(source, size, NULL), store_512);
}

TARGET_512 static uint32_t stream_copy_512(uint32_t sum, uint8_t *target, const uint8_t *source,
                                           size_t size, const uint8_t *next)
{
    assert((uintptr_t)target % LINE_SIZE == 0);
    return copy_steps_512(sum, target, source, size, look_ahead(source, size, next), stream_512);
}

static void settle_streams(void)
{
    _mm_sfence();
}

static bool available_sse42(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
}

static bool available_256(void)
{
    return available_sse42() && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("vpclmulqdq");
}

/* The processor's word is not enough: the system has to save the wide registers, which
 * __builtin_cpu_supports checks as well. */
static bool available_512(void)
{
    return available_256() && __builtin_cpu_supports("avx512f");
}

const kv_checksum_code kv_checksum_x86_512 = {
    .name = "vpclmulqdq512",
    .available = available_512,
    .update = update_512,
    .copy = copy_512,
    .stream = stream_copy_512,
    .settle = settle_streams,
};

const kv_checksum_code kv_checksum_x86_256 = {
    .name = "vpclmulqdq",
    .available = available_256,
    .update = update_256,
    .copy = copy_256,
    .stream = stream_copy_256,
    .settle = settle_streams,
};

const kv_checksum_code kv_checksum_x86_sse42 = {
    .name = "sse42",
    .available = available_sse42,
    .update = update_sse42,
};

#endif
