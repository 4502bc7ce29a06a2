/* The head of every message on the wire, little-endian, 32 bytes; then columns, then values.
 *
 *   0        4         5      6       8              16        20        24        28       32
 *   ┌────────┬─────────┬──────┬───────┬──────────────┬─────────┬─────────┬─────────┬────────┐
 *   │ magic  │ version │ kind │ flags │ request id   │ count   │ columns │ values  │ CRC-32C│
 *   │ "KVM1" │ u8      │ u8   │ u16   │ u64          │ u32     │ size u32│ size u32│ of 0-28│
 *   └────────┴─────────┴──────┴───────┴──────────────┴─────────┴─────────┴─────────┴────────┘
 *   columns: u32 CRC-32C of the rest, then what the kind says; values: bytes of values end to end, each covered by its own checksum
 *
 * Guarantees: a head that decodes has a known version and kind, and sizes within the limits of its
 * kind, so that whoever reads on knows what to allocate before doing so. Leaves the content of
 * columns to request.h, reply.h, forward.h, hello.h and control.h.
 *
 * Versions: hello messages have this head for ever, with KV_MESSAGE_HELLO_VERSION in it, and negotiate
 * the version that the heads of all later messages carry. */
#ifndef KV_MESSAGE_H
#define KV_MESSAGE_H

#include "kvcore.h"

#include <stdint.h>

#define KV_MESSAGE_HEAD_SIZE 32u
#define KV_MESSAGE_MAGIC 0x314d564bu
#define KV_MESSAGE_CRC_SIZE 4u
#define KV_MESSAGE_HELLO_VERSION 1u             /* of hello messages, whatever they negotiate */
#define KV_PROTOCOL_VERSION_MIN 1u
#define KV_PROTOCOL_VERSION_MAX 2u
#define KV_PROTOCOL_VERSION_DIGEST 2u           /* knows CONTROL DIGEST, and LIST_STORED of some parts of the keys */
#define KV_PROTOCOL_VERSION_SPACE 2u            /* knows FORWARD SPACE */
#define KV_MESSAGE_COUNT_MAX 4096u              /* items of one message: clients cut larger batches */
#define KV_MESSAGE_COLUMNS_SIZE_MAX (512u << 10)
#define KV_MESSAGE_FORWARD_SIZE_MAX (1152u << 10) /* columns of a FORWARD: whatever one request asks for, with stored keys */
#define KV_MESSAGE_VALUES_SIZE_MAX (68u << 20)  /* one value of the largest size fits */
#define KV_MESSAGE_HELLO_SIZE_MAX 8192u

typedef enum kv_message_kind {
    KV_MESSAGE_HELLO = 1,      /* client: who I am */
    KV_MESSAGE_CHALLENGE = 2,  /* node: prove it */
    KV_MESSAGE_PROOF = 3,      /* client */
    KV_MESSAGE_WELCOME = 4,    /* node: rights and limits */
    KV_MESSAGE_REFUSAL = 5,    /* node: why, then it closes */
    KV_MESSAGE_REQUEST = 16,   /* client: a batch for one target */
    KV_MESSAGE_REPLY = 17,     /* node: some or all items of a request */
    KV_MESSAGE_CANCEL = 18,    /* client: the rest of this request is not wanted any more; it is still replied to */
    KV_MESSAGE_CONTROL = 32,   /* client: kv_control_kind in flags, target in count, body as columns */
    KV_MESSAGE_CONTROL_REPLY = 33, /* node: errno in count (0: done), body as values */
    KV_MESSAGE_FORWARD = 48,    /* node to node: see forward.h; values as those of a request */
    KV_MESSAGE_FORWARDED = 49   /* its reply */
} kv_message_kind;

typedef struct kv_message_head {
    uint8_t version;
    uint8_t kind;
    uint16_t flags;
    uint32_t count;
    uint64_t request;
    uint32_t columns_size; /* the CRC included */
    uint32_t values_size;
} kv_message_head;

void kv_message_encode(const kv_message_head *head, uint8_t bytes[KV_MESSAGE_HEAD_SIZE]);
/* -EPROTO: not our magic or an unknown kind. -EBADMSG: the CRC is wrong. -EPROTONOSUPPORT: an unknown version. -EMSGSIZE: beyond a limit of its kind. */
int kv_message_decode(const uint8_t bytes[KV_MESSAGE_HEAD_SIZE], kv_message_head *head);
/* Put the CRC in front of columns whose other bytes are complete. */
void kv_message_seal(uint8_t *columns, uint32_t size);
/* -EBADMSG: the columns do not match their CRC. Without columns (size 0) there is nothing to match: 0. */
int kv_message_verify(const uint8_t *columns, uint32_t size);

/* Say why in `message` (KV_MESSAGE_SIZE; NULL: nobody wants to know), and return the error. */
int kv_message_refuse(int error, char *message, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
