/* Columns of hello messages, little-endian, each behind its CRC (u32 at 0):
 *
 *   HELLO
 *   4         5         6         7           8         10      12         16         32      64
 *   ┌─────────┬─────────┬─────────┬───────────┬─────────┬───────┬──────────┬──────────┬───────┐
 *   │ version │ version │ tenant  │ namespace │ token   │ flags │ reserved │ client   │ nonce │
 *   │ min u8  │ max u8  │ size u8 │ size u8   │ size u16│ u16   │ u32      │ id, 16   │ 32    │
 *   └─────────┴─────────┴─────────┴───────────┴─────────┴───────┴──────────┴──────────┴───────┘
 *   64: tenant, namespace, token, end to end.  flags: 1 the client has a secret and will prove it
 *
 *   CHALLENGE                                        PROOF
 *   4         5             6          8       40    4       36
 *   ┌─────────┬─────────────┬──────────┬───────┐     ┌───────┐
 *   │ version │ wants proof │ reserved │ nonce │     │ proof │
 *   │ u8      │ u8          │ u16      │ 32    │     │ 32    │
 *   └─────────┴─────────────┴──────────┴───────┘     └───────┘
 *   WELCOME
 *   4       36     40       44      48        52       56       60         64     72    80
 *   ┌───────┬──────┬────────┬───────┬─────────┬────────┬────────┬──────────┬──────┬─────┐
 *   │ proof │rights│requests│ count │ columns │ values │ stall  │ reserved │ node │ run │
 *   │ 32    │ u32  │max u32 │max u32│size max │size max│timeout │ u32      │ u64  │ u64 │
 *   └───────┴──────┴────────┴───────┴─────────┴────────┴────────┴──────────┴──────┴─────┘
 *   REFUSAL
 *   4             5             6                  8
 *   ┌─────────────┬─────────────┬──────────────────┬────────────────────────────┐
 *   │ version min │ version max │ kind u16:        │ reason: text to the end of │
 *   │ u8          │ u8          │ kv_refusal_kind  │ the columns                │
 *   └─────────────┴─────────────┴──────────────────┴────────────────────────────┘
 *   The versions of a REFUSAL are those that the node speaks.
 *
 * HELLO and REFUSAL are the same for ever. A HELLO that offers a version which the node does not
 * know may have more bytes at its end and more flags: the node ignores them, the transcript covers
 * them. Internal to hello*.c. */
#ifndef KV_HELLO_WIRE_H
#define KV_HELLO_WIRE_H

#include "protocol/hello.h"

enum {
    KV_HELLO_AT_VERSION_MIN = 4,
    KV_HELLO_AT_VERSION_MAX = 5,
    KV_HELLO_AT_TENANT_SIZE = 6,
    KV_HELLO_AT_NAMESPACE_SIZE = 7,
    KV_HELLO_AT_TOKEN_SIZE = 8,
    KV_HELLO_AT_FLAGS = 10,
    KV_HELLO_AT_RESERVED = 12,
    KV_HELLO_AT_CLIENT = 16,
    KV_HELLO_AT_NONCE = 32,
    KV_HELLO_SIZE = 64,

    KV_CHALLENGE_AT_VERSION = 4,
    KV_CHALLENGE_AT_WANTS_PROOF = 5,
    KV_CHALLENGE_AT_RESERVED = 6,
    KV_CHALLENGE_AT_NONCE = 8,
    KV_CHALLENGE_SIZE = 40,

    KV_PROOF_AT_PROOF = 4,
    KV_PROOF_COLUMNS_SIZE = 36,

    KV_WELCOME_AT_PROOF = 4,
    KV_WELCOME_AT_GRANT = 36,
    KV_WELCOME_AT_RESERVED = 60,
    KV_WELCOME_AT_NODE = 64,
    KV_WELCOME_AT_RUN = 72,
    KV_WELCOME_SIZE = 80,

    KV_REFUSAL_AT_VERSION_MIN = 4,
    KV_REFUSAL_AT_VERSION_MAX = 5,
    KV_REFUSAL_AT_KIND = 6,
    KV_REFUSAL_SIZE = 8
};

enum { KV_HELLO_FLAG_PROVES = 1 };

typedef enum kv_refusal_kind {
    KV_REFUSAL_OTHER = 0,
    KV_REFUSAL_SECRET = 1,
    KV_REFUSAL_VERSION = 2
} kv_refusal_kind;

/* Put head and seal around columns that are complete at out + KV_MESSAGE_HEAD_SIZE; returns the
 * size of the message. */
int kv_hello_wrap(uint8_t kind, uint32_t columns_size, uint8_t *out);
/* The hello is over. Returns the size of the REFUSAL in `out`; a client sends none: 0. */
int kv_hello_fail(kv_hello *hello, int error, uint8_t *out, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void kv_hello_transcribe(kv_hello *hello, const uint8_t *message, uint32_t size);
/* What `role` has to prove, over the transcript and, of a node, its grant; zeros without a
 * secret. */
void kv_hello_prove(const kv_hello *hello, const char *role, const uint8_t *grant,
                    uint32_t grant_size, uint8_t proof[KV_PROOF_SIZE]);
bool kv_hello_grant_legal(const kv_hello_grant *grant);
/* The highest version that an end may speak: what it was told, or (0) the newest. */
uint32_t kv_hello_version_max(uint32_t told);

/* Messages that are whole and of the expected kind; columns_size is head->columns_size. */
int kv_hello_take_hello(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                        uint8_t *out);
int kv_hello_take_proof(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                        uint8_t *out);
int kv_hello_take_challenge(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                            uint8_t *out);
int kv_hello_take_welcome(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                          uint8_t *out);
int kv_hello_take_refusal(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                          uint8_t *out);

#endif
