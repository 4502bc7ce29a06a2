/* The 4096-byte header of every file: who the file belongs to, what it is and in which version.
 *
 * A header that decodes is exactly what encode would write again. Telling the failures apart is
 * the point: an empty file, a foreign file, a damaged file and a newer format need different
 * answers from a person. What the eight fields mean is left to the file's owner. */

#include "bytes/endian.h"
#include "engine/format.h"
#include "kvcore.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define MAGIC "CRAQ-KVS"
#define MAGIC_SIZE 8u

enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_KIND = 12,
    AT_UUID = 16,
    AT_FIELDS = 32,
    AT_ZERO = 96,
    AT_CRC = KV_PAGE_SIZE - 4
};

#define UUID_SIZE sizeof(((kv_header *)0)->uuid)
#define FIELDS_SIZE sizeof(((kv_header *)0)->fields)
#define FIELDS_COUNT (FIELDS_SIZE / 8)

_Static_assert(AT_FIELDS == AT_UUID + UUID_SIZE, "the uuid ends at the fields");
_Static_assert(AT_ZERO == AT_FIELDS + FIELDS_SIZE, "the fields end at the zeros");

static bool all_zero(const uint8_t *bytes, size_t size)
{
    /* Equal to itself shifted by one: all bytes are the first one. */
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static bool kind_known(uint32_t kind)
{
    return kind >= KV_HEADER_SUPERBLOCK && kind <= KV_HEADER_CHECKPOINT;
}

void kv_header_encode(const kv_header *header, void *page)
{
    uint8_t *bytes = page;

    assert(kind_known(header->kind));

    memset(bytes, 0, KV_PAGE_SIZE);
    memcpy(bytes + AT_MAGIC, MAGIC, MAGIC_SIZE);
    kv_endian_store_u32(bytes + AT_VERSION, KV_FORMAT_VERSION);
    kv_endian_store_u32(bytes + AT_KIND, header->kind);
    memcpy(bytes + AT_UUID, header->uuid, UUID_SIZE);
    for (size_t i = 0; i < FIELDS_COUNT; i++)
        kv_endian_store_u64(bytes + AT_FIELDS + 8 * i, header->fields[i]);
    kv_endian_store_u32(bytes + AT_CRC, kv_checksum(0, bytes, AT_CRC));
}

/* The checks in an order that makes each answer true: only a page with the right checksum may say
 * which version it is, and only one of our version what else it holds. */
static int page_check(const uint8_t *bytes, kv_header_kind kind, uint32_t *version)
{
    if (all_zero(bytes, KV_PAGE_SIZE))
        return -ENODATA;
    if (memcmp(bytes + AT_MAGIC, MAGIC, MAGIC_SIZE) != 0)
        return -EBADMSG;
    if (kv_endian_load_u32(bytes + AT_CRC) != kv_checksum(0, bytes, AT_CRC))
        return -EPROTO;

    *version = kv_endian_load_u32(bytes + AT_VERSION);
    if (*version != KV_FORMAT_VERSION)
        return -ENOTSUP;
    if (kv_endian_load_u32(bytes + AT_KIND) != kind)
        return -EINVAL;
    if (!all_zero(bytes + AT_ZERO, AT_CRC - AT_ZERO))
        return -EPROTO;
    return 0;
}

int kv_header_decode(const void *page, kv_header_kind kind, kv_header *header, uint32_t *version)
{
    const uint8_t *bytes = page;
    int result;

    assert(kind_known(kind));
    assert(version != NULL);

    *version = 0;
    result = page_check(bytes, kind, version);
    if (result < 0)
        return result;

    header->kind = kind;
    memcpy(header->uuid, bytes + AT_UUID, UUID_SIZE);
    for (size_t i = 0; i < FIELDS_COUNT; i++)
        header->fields[i] = kv_endian_load_u64(bytes + AT_FIELDS + 8 * i);
    return 0;
}
