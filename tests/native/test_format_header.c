/* File headers: frozen bytes, and each kind of failure told from the others. */

#include "bytes/endian.h"
#include "engine/format.h"
#include "kvcore.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static const kv_header example_header = {.kind = KV_HEADER_JOURNAL,
                                         .uuid = "0123456789abcdef",
                                         .fields = {1, 2, 3, 4, 5, 6, 7, 0x8877665544332211ull}};

static void headers_round_trip(void)
{
    uint8_t page[KV_PAGE_SIZE];
    uint32_t version = 99;

    for (uint32_t kind = KV_HEADER_SUPERBLOCK; kind <= KV_HEADER_CHECKPOINT; kind++) {
        kv_header header, decoded;

        header.kind = (kv_header_kind)kind;
        for (size_t i = 0; i < sizeof(header.uuid); i++)
            header.uuid[i] = (uint8_t)(kind * 16 + i);
        for (int i = 0; i < 8; i++)
            header.fields[i] = ~0ull / (kind + (uint32_t)i);
        memset(page, 0xee, sizeof(page));
        kv_header_encode(&header, page);
        assert(kv_header_decode(page, header.kind, &decoded, &version) == 0);
        assert(version == KV_FORMAT_VERSION && decoded.kind == header.kind);
        assert(memcmp(decoded.uuid, header.uuid, sizeof(header.uuid)) == 0);
        assert(memcmp(decoded.fields, header.fields, sizeof(header.fields)) == 0);
    }
}

static void the_header_is_frozen(void)
{
    static const uint8_t front[96] = {
        'C', 'R', 'A', 'Q', '-', 'K', 'V', 'S', 2, 0, 0, 0, 3, 0, 0, 0,
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
        1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
        3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
        5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
        7, 0, 0, 0, 0, 0, 0, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88};
    static const uint8_t zero[KV_PAGE_SIZE];
    uint8_t page[KV_PAGE_SIZE];

    kv_header_encode(&example_header, page);
    assert(memcmp(page, front, sizeof(front)) == 0);
    assert(memcmp(page + 96, zero, 4092 - 96) == 0);
    assert(memcmp(page + 4092, (const uint8_t[]){0x60, 0x4b, 0xc7, 0x94}, 4) == 0);
}

static void header_failures_are_told_apart(void)
{
    uint8_t page[KV_PAGE_SIZE] = {0};
    kv_header header;
    uint32_t version = 99;

    assert(kv_header_decode(page, KV_HEADER_SLABS, &header, &version) == -ENODATA && version == 0);
    page[4095] = 1;
    assert(kv_header_decode(page, KV_HEADER_SLABS, &header, &version) == -EBADMSG);

    kv_header_encode(&example_header, page);
    assert(kv_header_decode(page, KV_HEADER_SLABS, &header, &version) == -EINVAL);
    assert(version == KV_FORMAT_VERSION);

    kv_endian_store_u32(page + 8, 7);
    assert(kv_header_decode(page, KV_HEADER_JOURNAL, &header, &version) == -EPROTO && version == 0);
    kv_endian_store_u32(page + 4092, kv_checksum(0, page, 4092));
    assert(kv_header_decode(page, KV_HEADER_JOURNAL, &header, &version) == -ENOTSUP);
    assert(version == 7);

    kv_header_encode(&example_header, page);
    page[4000] = 1;
    kv_endian_store_u32(page + 4092, kv_checksum(0, page, 4092));
    assert(kv_header_decode(page, KV_HEADER_JOURNAL, &header, &version) == -EPROTO);
}

static void every_flipped_bit_of_a_header_is_refused(void)
{
    uint8_t page[KV_PAGE_SIZE];
    kv_header header;
    uint32_t version;

    kv_header_encode(&example_header, page);
    for (uint32_t bit = 0; bit < 8 * KV_PAGE_SIZE; bit++) {
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert(kv_header_decode(page, KV_HEADER_JOURNAL, &header, &version) ==
               (bit < 64 ? -EBADMSG : -EPROTO));
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert(kv_header_decode(page, KV_HEADER_JOURNAL, &header, &version) == 0);
}

int main(void)
{
    headers_round_trip();
    the_header_is_frozen();
    header_failures_are_told_apart();
    every_flipped_bit_of_a_header_is_refused();
    return 0;
}
