/* Journal groups and checkpoint blocks: the envelope around a run of records.
 *
 * A group that opens is byte for byte what seal wrote: the checksum covers header and records, the
 * magic and the padding are compared. Whether its sequence, run, generation and store continue what
 * came before is left to the reader, and so are the records inside. */

#include "bytes/endian.h"
#include "engine/format.h"
#include "kvcore.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define MAGIC_GROUP 0x474a564bu /* "KVJG" */
#define MAGIC_BLOCK 0x4243564bu /* "KVCB" */

enum {
    AT_MAGIC = 0,
    AT_CRC = 4,
    AT_SIZE = 8,
    AT_COUNT = 12,
    AT_FIRST = 16,
    AT_FLUSHED = 24,
    AT_RUN = 32,
    AT_GENERATION = 40,
    AT_STORE = 48,
    AT_ZERO = 56
};

_Static_assert(KV_GROUP_HEADER_SIZE == AT_ZERO + 8, "the header ends with eight zero bytes");
_Static_assert(KV_GROUP_SIZE_MAX == KV_CHECKPOINT_BLOCK_SIZE_MAX, "one bound serves both");

size_t kv_group_padded_size(uint32_t size)
{
    size_t whole = (size_t)KV_GROUP_HEADER_SIZE + size;

    return (whole + KV_PAGE_SIZE - 1) & ~(size_t)(KV_PAGE_SIZE - 1);
}

/* What holds for groups and blocks alike, whether about to be written or just read. */
static bool group_legal(const kv_group *group)
{
    if (group->size > KV_GROUP_SIZE_MAX - KV_GROUP_HEADER_SIZE)
        return false;
    /* Multiplied in 64 bits: a hostile count must not wrap around. */
    if ((uint64_t)group->count * KV_RECORD_SIZE_MIN > group->size)
        return false;
    if ((uint64_t)group->count * KV_RECORD_SIZE_MAX < group->size)
        return false;
    return group->first <= UINT64_MAX - group->count;
}

static uint32_t checksum_of(const uint8_t *bytes, uint32_t size)
{
    return kv_checksum(0, bytes + AT_SIZE, KV_GROUP_HEADER_SIZE - AT_SIZE + (size_t)size);
}

static size_t envelope_seal(const kv_group *group, uint32_t magic, uint8_t *bytes)
{
    size_t whole = (size_t)KV_GROUP_HEADER_SIZE + group->size;
    size_t padded = kv_group_padded_size(group->size);

    assert(group_legal(group));

    memset(bytes + whole, 0, padded - whole);
    kv_endian_store_u32(bytes + AT_MAGIC, magic);
    kv_endian_store_u32(bytes + AT_SIZE, group->size);
    kv_endian_store_u32(bytes + AT_COUNT, group->count);
    kv_endian_store_u64(bytes + AT_FIRST, group->first);
    kv_endian_store_u64(bytes + AT_FLUSHED, group->flushed);
    kv_endian_store_u64(bytes + AT_RUN, group->run);
    kv_endian_store_u64(bytes + AT_GENERATION, group->generation);
    kv_endian_store_u64(bytes + AT_STORE, group->store);
    kv_endian_store_u64(bytes + AT_ZERO, 0);
    kv_endian_store_u32(bytes + AT_CRC, checksum_of(bytes, group->size));
    return padded;
}

static void header_load(const uint8_t *bytes, kv_group *group)
{
    group->size = kv_endian_load_u32(bytes + AT_SIZE);
    group->count = kv_endian_load_u32(bytes + AT_COUNT);
    group->first = kv_endian_load_u64(bytes + AT_FIRST);
    group->flushed = kv_endian_load_u64(bytes + AT_FLUSHED);
    group->run = kv_endian_load_u64(bytes + AT_RUN);
    group->generation = kv_endian_load_u64(bytes + AT_GENERATION);
    group->store = kv_endian_load_u64(bytes + AT_STORE);
}

static bool padding_zero(const uint8_t *bytes, const kv_group *group)
{
    size_t padded = kv_group_padded_size(group->size);

    for (size_t i = (size_t)KV_GROUP_HEADER_SIZE + group->size; i < padded; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

/* The size is believed only after it was bounded, and the bytes only after the checksum. */
static int envelope_open(const uint8_t *bytes, size_t available, uint32_t magic, kv_group *group)
{
    kv_group found;

    if (available < AT_CRC || kv_endian_load_u32(bytes + AT_MAGIC) != magic)
        return -ENODATA;
    if (available < KV_GROUP_HEADER_SIZE)
        return -EAGAIN;

    header_load(bytes, &found);
    if (!group_legal(&found) || kv_endian_load_u64(bytes + AT_ZERO) != 0)
        return -EBADMSG;
    if (magic == MAGIC_GROUP && found.flushed > found.first)
        return -EBADMSG;
    if (kv_group_padded_size(found.size) > available)
        return -EAGAIN;
    if (kv_endian_load_u32(bytes + AT_CRC) != checksum_of(bytes, found.size))
        return -EBADMSG;
    if (!padding_zero(bytes, &found))
        return -EBADMSG;
    *group = found;
    return 0;
}

size_t kv_group_seal(const kv_group *group, void *target)
{
    assert(group->flushed <= group->first);
    return envelope_seal(group, MAGIC_GROUP, target);
}

int kv_group_open(const void *source, size_t available, kv_group *group)
{
    return envelope_open(source, available, MAGIC_GROUP, group);
}

size_t kv_block_seal(const kv_group *block, void *target)
{
    return envelope_seal(block, MAGIC_BLOCK, target);
}

int kv_block_open(const void *source, size_t available, kv_group *block)
{
    return envelope_open(source, available, MAGIC_BLOCK, block);
}
