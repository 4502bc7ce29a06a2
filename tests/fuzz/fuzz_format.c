/* Fuzzes the decoders of the storage format: whatever the bytes, they answer without a fault, and
 * what they accept encodes to the same bytes again.
 *
 *   byte 0                         1
 *   +------------------------------+--------------------
 *   | decoder + 4 * treatment      | bytes of the file ...
 *   +------------------------------+--------------------
 *
 * No fuzzer guesses a checksum, so two of the three treatments put the right one in: `patched`
 * leaves every other field hostile, `sealed` writes a whole legal envelope, behind which the
 * records are hostile. */

#include "bytes/endian.h"
#include "engine/format.h"
#include "kvcore.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DECODER_COUNT 4u
#define TREATMENT_COUNT 3u
#define CRC_AT_END (KV_PAGE_SIZE - 4)
/* Count, and five fields of eight bytes, in front of the records of a sealed group. */
#define ENVELOPE_SIZE 44u

enum { DECODER_HEADER, DECODER_RECORD, DECODER_GROUP, DECODER_BLOCK };
enum { TREATMENT_RAW, TREATMENT_PATCHED, TREATMENT_SEALED };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The decoder's promises about one record. */
static int64_t check_record(const uint8_t *bytes, size_t size)
{
    static kv_record record;
    uint8_t again[KV_RECORD_SIZE_MAX];
    int64_t used = kv_record_decode(bytes, size, &record);

    if (used < 0) {
        assert(used == -EBADMSG);
        return used;
    }
    assert(used >= (int64_t)KV_RECORD_SIZE_MIN && used <= (int64_t)KV_RECORD_SIZE_MAX);
    assert((size_t)used <= size);
    assert((int64_t)kv_record_encode(&record, again) == used);
    assert(memcmp(bytes, again, (size_t)used) == 0);
    return used;
}

static void walk(const uint8_t *bytes, size_t available, const kv_group *group)
{
    size_t at = KV_GROUP_HEADER_SIZE;
    size_t end = at + group->size;

    assert(kv_group_padded_size(group->size) <= available);
    for (uint32_t i = 0; i < group->count; i++) {
        int64_t used = check_record(bytes + at, end - at);

        if (used < 0)
            return;
        at += (size_t)used;
    }
    assert(at <= end);
}

static int envelope_open(unsigned decoder, const uint8_t *bytes, size_t size, kv_group *group)
{
    return decoder == DECODER_GROUP ? kv_group_open(bytes, size, group)
                                    : kv_block_open(bytes, size, group);
}

static size_t envelope_seal(unsigned decoder, const kv_group *group, uint8_t *bytes)
{
    return decoder == DECODER_GROUP ? kv_group_seal(group, bytes) : kv_block_seal(group, bytes);
}

static void fuzz_raw(unsigned decoder, const uint8_t *data, size_t size)
{
    kv_group group;
    int result = envelope_open(decoder, data, size, &group);

    assert(result == 0 || result == -ENODATA || result == -EBADMSG || result == -EAGAIN);
    if (result == 0)
        walk(data, size, &group);
}

/* Whole pages with the right magic, and the right checksum where the size names existing bytes. */
static void fuzz_patched(unsigned decoder, const uint8_t *data, size_t size)
{
    size_t padded = (size + KV_PAGE_SIZE) / KV_PAGE_SIZE * KV_PAGE_SIZE;
    uint8_t *bytes = calloc(1, padded);
    uint32_t records_size;

    assert(bytes != NULL);
    memcpy(bytes, data, size);
    memcpy(bytes, decoder == DECODER_GROUP ? "KVJG" : "KVCB", 4);
    records_size = kv_endian_load_u32(bytes + 8);
    if (records_size <= padded - KV_GROUP_HEADER_SIZE)
        kv_endian_store_u32(bytes + 4, kv_checksum(0, bytes + 8, records_size + (size_t)56));
    fuzz_raw(decoder, bytes, padded);
    free(bytes);
}

/* A legal group around the bytes behind the envelope. */
static kv_group draw_group(const uint8_t *data, uint32_t size)
{
    uint32_t count_min = (size + KV_RECORD_SIZE_MAX - 1) / KV_RECORD_SIZE_MAX;
    uint32_t count_max = size / KV_RECORD_SIZE_MIN;
    kv_group group = {
        .size = size,
        .count = count_min + kv_endian_load_u32(data) % (count_max - count_min + 1),
        .first = kv_endian_load_u64(data + 4),
        .flushed = kv_endian_load_u64(data + 12),
        .run = kv_endian_load_u64(data + 20),
        .generation = kv_endian_load_u64(data + 28),
        .store = kv_endian_load_u64(data + 36),
    };

    if (group.first > UINT64_MAX - group.count)
        group.first = UINT64_MAX - group.count;
    if (group.flushed > group.first)
        group.flushed = group.first;
    return group;
}

static void fuzz_sealed(unsigned decoder, const uint8_t *data, size_t size)
{
    kv_group group, opened;
    size_t padded;
    uint8_t *bytes;

    if (size < ENVELOPE_SIZE || size - ENVELOPE_SIZE > KV_GROUP_SIZE_MAX - KV_GROUP_HEADER_SIZE)
        return;
    if (size - ENVELOPE_SIZE < KV_RECORD_SIZE_MIN)
        size = ENVELOPE_SIZE; /* a single byte is no record */
    group = draw_group(data, (uint32_t)(size - ENVELOPE_SIZE));
    padded = kv_group_padded_size(group.size);
    bytes = malloc(padded);
    assert(bytes != NULL);
    memcpy(bytes + KV_GROUP_HEADER_SIZE, data + ENVELOPE_SIZE, group.size);

    assert(envelope_seal(decoder, &group, bytes) == padded);
    assert(envelope_open(decoder, bytes, padded, &opened) == 0);
    assert(memcmp(&group, &opened, sizeof(group)) == 0);
    walk(bytes, padded, &opened);
    free(bytes);
}

/* The input lies over a page of zeros. */
static void fuzz_header(const uint8_t *data, size_t size, unsigned treatment)
{
    uint8_t page[KV_PAGE_SIZE] = {0}, again[KV_PAGE_SIZE];
    kv_header header;
    uint32_t version;

    memcpy(page, data, size < KV_PAGE_SIZE ? size : KV_PAGE_SIZE);
    if (treatment == TREATMENT_SEALED)
        memcpy(page, "CRAQ-KVS\1\0\0", 12);
    if (treatment != TREATMENT_RAW)
        kv_endian_store_u32(page + CRC_AT_END, kv_checksum(0, page, CRC_AT_END));
    for (unsigned kind = KV_HEADER_SUPERBLOCK; kind <= KV_HEADER_CHECKPOINT; kind++) {
        if (kv_header_decode(page, (kv_header_kind)kind, &header, &version) != 0)
            continue;
        assert(version == KV_FORMAT_VERSION && header.kind == kind);
        kv_header_encode(&header, again);
        assert(memcmp(page, again, KV_PAGE_SIZE) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned decoder, treatment;

    if (size == 0)
        return 0;
    decoder = data[0] % DECODER_COUNT;
    treatment = data[0] / DECODER_COUNT % TREATMENT_COUNT;
    data++;
    size--;

    if (decoder == DECODER_HEADER)
        fuzz_header(data, size, treatment);
    else if (decoder == DECODER_RECORD)
        check_record(data, size);
    else if (treatment == TREATMENT_RAW)
        fuzz_raw(decoder, data, size);
    else if (treatment == TREATMENT_PATCHED)
        fuzz_patched(decoder, data, size);
    else
        fuzz_sealed(decoder, data, size);
    return 0;
}
