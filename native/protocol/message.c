/* Heads of messages, and the CRC in front of columns.
 *
 * Guarantees that no size of a decoded head exceeds the limit of its kind, so that whoever reads
 * on may allocate by it. What kinds there are, and how large they get, is one table here. */

#include "protocol/message.h"

#include "bytes/endian.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* Offsets within a head. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_KIND = 5,
    AT_FLAGS = 6,
    AT_REQUEST = 8,
    AT_COUNT = 16,
    AT_COLUMNS_SIZE = 20,
    AT_VALUES_SIZE = 24,
    AT_CRC = 28
};

_Static_assert(AT_CRC + 4 == KV_MESSAGE_HEAD_SIZE, "the CRC ends the head");
_Static_assert(KV_MESSAGE_VALUES_SIZE_MAX >= KV_VALUE_SIZE_LIMIT, "the largest value fits");
_Static_assert(KV_MESSAGE_VALUES_SIZE_MAX >= KV_CONTROL_SIZE_LIMIT, "any control reply fits");
_Static_assert(KV_MESSAGE_HELLO_SIZE_MAX <= KV_MESSAGE_COLUMNS_SIZE_MAX &&
                   KV_MESSAGE_COLUMNS_SIZE_MAX <= KV_MESSAGE_FORWARD_SIZE_MAX,
               "columns of any kind stay below one limit");

/* Columns are absent, or hold at least their CRC. */
typedef struct limits {
    bool known;
    bool columns_wanted;
    uint32_t columns_size_max;
    uint32_t values_size_max;
    uint32_t count_max;
} limits;

#define HELLO_LIMITS {true, true, KV_MESSAGE_HELLO_SIZE_MAX, 0, 0}

/* The count of control messages is a target or an errno: any. */
static const limits limits_of[] = {
    [KV_MESSAGE_HELLO] = HELLO_LIMITS,
    [KV_MESSAGE_CHALLENGE] = HELLO_LIMITS,
    [KV_MESSAGE_PROOF] = HELLO_LIMITS,
    [KV_MESSAGE_WELCOME] = HELLO_LIMITS,
    [KV_MESSAGE_REFUSAL] = HELLO_LIMITS,
    [KV_MESSAGE_REQUEST] = {true, true, KV_MESSAGE_COLUMNS_SIZE_MAX, KV_MESSAGE_VALUES_SIZE_MAX,
                            KV_MESSAGE_COUNT_MAX},
    [KV_MESSAGE_REPLY] = {true, true, KV_MESSAGE_COLUMNS_SIZE_MAX, KV_MESSAGE_VALUES_SIZE_MAX,
                          KV_MESSAGE_COUNT_MAX},
    [KV_MESSAGE_CANCEL] = {true, false, 0, 0, 0},
    [KV_MESSAGE_CONTROL] = {true, false, KV_MESSAGE_COLUMNS_SIZE_MAX, 0, UINT32_MAX},
    [KV_MESSAGE_CONTROL_REPLY] = {true, false, KV_MESSAGE_COLUMNS_SIZE_MAX, KV_CONTROL_SIZE_LIMIT,
                                  UINT32_MAX},
    [KV_MESSAGE_FORWARD] = {true, true, KV_MESSAGE_FORWARD_SIZE_MAX, KV_MESSAGE_VALUES_SIZE_MAX,
                            KV_MESSAGE_COUNT_MAX},
    [KV_MESSAGE_FORWARDED] = {true, true, KV_MESSAGE_COLUMNS_SIZE_MAX, 0, KV_MESSAGE_COUNT_MAX},
};

#define KIND_COUNT (sizeof(limits_of) / sizeof(limits_of[0]))

static bool kind_known(uint8_t kind)
{
    return kind < KIND_COUNT && limits_of[kind].known;
}

static bool version_known(uint8_t version, uint8_t kind)
{
    if (kind <= KV_MESSAGE_REFUSAL)
        return version == KV_MESSAGE_HELLO_VERSION;
    return version >= KV_PROTOCOL_VERSION_MIN && version <= KV_PROTOCOL_VERSION_MAX;
}

static bool sizes_legal(const kv_message_head *head)
{
    const limits *limit = &limits_of[head->kind];

    if (head->columns_size > 0 ? head->columns_size < KV_MESSAGE_CRC_SIZE : limit->columns_wanted)
        return false;
    return head->columns_size <= limit->columns_size_max &&
           head->values_size <= limit->values_size_max && head->count <= limit->count_max;
}

void kv_message_encode(const kv_message_head *head, uint8_t bytes[KV_MESSAGE_HEAD_SIZE])
{
    assert(kind_known(head->kind));
    assert(version_known(head->version, head->kind));
    assert(sizes_legal(head));

    kv_endian_store_u32(bytes + AT_MAGIC, KV_MESSAGE_MAGIC);
    bytes[AT_VERSION] = head->version;
    bytes[AT_KIND] = head->kind;
    kv_endian_store_u16(bytes + AT_FLAGS, head->flags);
    kv_endian_store_u64(bytes + AT_REQUEST, head->request);
    kv_endian_store_u32(bytes + AT_COUNT, head->count);
    kv_endian_store_u32(bytes + AT_COLUMNS_SIZE, head->columns_size);
    kv_endian_store_u32(bytes + AT_VALUES_SIZE, head->values_size);
    kv_endian_store_u32(bytes + AT_CRC, kv_checksum(0, bytes, AT_CRC));
}

/* The magic is looked at first, so that a foreign protocol is told from damage. */
int kv_message_decode(const uint8_t bytes[KV_MESSAGE_HEAD_SIZE], kv_message_head *head)
{
    if (kv_endian_load_u32(bytes + AT_MAGIC) != KV_MESSAGE_MAGIC)
        return -EPROTO;
    if (kv_endian_load_u32(bytes + AT_CRC) != kv_checksum(0, bytes, AT_CRC))
        return -EBADMSG;

    *head = (kv_message_head){
        .version = bytes[AT_VERSION],
        .kind = bytes[AT_KIND],
        .flags = kv_endian_load_u16(bytes + AT_FLAGS),
        .count = kv_endian_load_u32(bytes + AT_COUNT),
        .request = kv_endian_load_u64(bytes + AT_REQUEST),
        .columns_size = kv_endian_load_u32(bytes + AT_COLUMNS_SIZE),
        .values_size = kv_endian_load_u32(bytes + AT_VALUES_SIZE),
    };
    if (!version_known(head->version, head->kind))
        return -EPROTONOSUPPORT;
    if (!kind_known(head->kind))
        return -EPROTO;
    return sizes_legal(head) ? 0 : -EMSGSIZE;
}

void kv_message_seal(uint8_t *columns, uint32_t size)
{
    assert(size >= KV_MESSAGE_CRC_SIZE);
    assert(size <= KV_MESSAGE_FORWARD_SIZE_MAX);

    kv_endian_store_u32(columns, kv_checksum(0, columns + KV_MESSAGE_CRC_SIZE,
                                             size - KV_MESSAGE_CRC_SIZE));
}

int kv_message_verify(const uint8_t *columns, uint32_t size)
{
    if (size == 0)
        return 0;
    if (size < KV_MESSAGE_CRC_SIZE)
        return -EBADMSG;
    return kv_endian_load_u32(columns) ==
                   kv_checksum(0, columns + KV_MESSAGE_CRC_SIZE, size - KV_MESSAGE_CRC_SIZE)
               ? 0
               : -EBADMSG;
}

int kv_message_refuse(int error, char *message, const char *format, ...)
{
    va_list arguments;

    if (message) {
        va_start(arguments, format);
        vsnprintf(message, KV_MESSAGE_SIZE, format, arguments);
        va_end(arguments);
    }
    return error;
}
