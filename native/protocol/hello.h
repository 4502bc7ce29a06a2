/* How a connection begins: two state machines, one for each end, without I/O, clock or random numbers.
 *
 *   client                                   node
 *     │ HELLO  versions, client id, nonce,     │
 *     │        tenant, namespace, token ─────► │
 *     │ ◄───────── CHALLENGE  version, nonce, wants proof
 *     │ PROOF  HMAC-SHA-256(secret, "client", transcript) ─► │
 *     │ ◄───────── WELCOME  HMAC-SHA-256(secret, "node", transcript, grant), rights, limits
 *
 * The transcript is the SHA-256 of HELLO and CHALLENGE whole, so that a proof is worth nothing in any other hello (replay), for any
 * other name, and no version can be talked down. Without a secret both proofs are zeros and nobody is proven; a client that has a
 * secret refuses a node that does not prove it. A refusal carries a reason for people. */
#ifndef KV_HELLO_H
#define KV_HELLO_H

#include "bytes/sha256.h"
#include "protocol/message.h"

#include <stdbool.h>

#define KV_CLIENT_ID_SIZE 16u
#define KV_NONCE_SIZE 32u
#define KV_PROOF_SIZE KV_SHA256_SIZE
#define KV_NAME_SIZE_MAX 63u        /* tenant, namespace: letters, digits, "-", "_", "."; not empty */
#define KV_TOKEN_SIZE_MAX 4096u
#define KV_HELLO_MESSAGE_SIZE_MAX (KV_MESSAGE_HEAD_SIZE + KV_MESSAGE_HELLO_SIZE_MAX)
#define KV_HELLO_COLUMNS_SIZE_MIN 2048u /* no grant is smaller: a request for one key of any size fits */

#define KV_RIGHT_READ 1u
#define KV_RIGHT_WRITE 2u
#define KV_RIGHT_ADMINISTER 4u
#define KV_RIGHT_PEER 8u            /* another node: forwards updates of chains */

typedef struct kv_hello_names {
    char tenant[KV_NAME_SIZE_MAX + 1];
    char name_space[KV_NAME_SIZE_MAX + 1];
    uint8_t client[KV_CLIENT_ID_SIZE];
    uint8_t token[KV_TOKEN_SIZE_MAX];
    uint32_t token_size;
    uint32_t version_max;               /* client: offers none above; 0: KV_PROTOCOL_VERSION_MAX. Not sent with the names */
} kv_hello_names;

/* What WELCOME grants. Limits are at least 1, and at most those of message.h. */
typedef struct kv_hello_grant {
    uint32_t rights;
    uint32_t requests_max;       /* in flight on this connection */
    uint32_t count_max;          /* items of a request */
    uint32_t columns_size_max;
    uint32_t values_size_max;
    uint32_t stall_timeout_ms;
    uint64_t node;
    uint64_t run;                /* random for each start of the node: update channels do not survive it */
    uint32_t version_max;        /* node: speaks none above; 0: KV_PROTOCOL_VERSION_MAX. Not part of WELCOME */
} kv_hello_grant;

typedef enum kv_hello_state {
    KV_HELLO_NEW = 0,
    KV_HELLO_WAITS = 1, /* for a message of the other end */
    KV_HELLO_DONE = 2,
    KV_HELLO_FAILED = 3
} kv_hello_state;

/* One end of a hello. `secret` stays the owner's and in place until the hello is over. */
typedef struct kv_hello {
    kv_hello_state state;
    bool node;
    const uint8_t *secret;
    uint32_t secret_size;
    uint8_t nonce[KV_NONCE_SIZE];   /* own */
    kv_hello_names names;           /* node: of the client, valid when done */
    kv_hello_grant grant;           /* node: to give; client: received */
    uint32_t version;               /* agreed */
    uint32_t version_max;           /* that this end speaks */
    uint8_t expected;               /* kv_message_kind that this end waits for */
    kv_sha256 transcript;
    char reason[KV_MESSAGE_SIZE];   /* failed: why */
    int error;                      /* failed: -EACCES (secret), -EPROTONOSUPPORT (version), -EPROTO, -EBADMSG, -ECONNREFUSED (refused by the node) */
} kv_hello;

/* Whether name[0 ... size) may be a tenant or a namespace. */
bool kv_hello_name_legal(const char *name, size_t size);
/* `nonce`: fresh random bytes. The client's first message goes to `out` (KV_HELLO_MESSAGE_SIZE_MAX); returns its size. -EINVAL: a bad name, or a token that is too large. */
int kv_hello_begin_client(kv_hello *hello, const kv_hello_names *names, const uint8_t *secret, uint32_t secret_size,
                          const uint8_t nonce[KV_NONCE_SIZE], uint8_t *out);
void kv_hello_begin_node(kv_hello *hello, const kv_hello_grant *grant, const uint8_t *secret, uint32_t secret_size,
                         const uint8_t nonce[KV_NONCE_SIZE]);
/* Take a whole message: `head` decoded, `bytes` the head's 32 bytes and its columns. A message of any other kind than hello->expected (or REFUSAL, for a
 * client) is refused by its head alone: its columns need not have arrived. Returns the size of the answer put into `out` (0: none);
 * look at hello->state afterwards. A node that fails answers with a REFUSAL, which is to be sent before the connection is closed. */
int kv_hello_step(kv_hello *hello, const kv_message_head *head, const uint8_t *bytes, uint8_t *out);
/* A REFUSAL for whoever cannot even begin (too many connections, draining); the client gets -ECONNREFUSED. Returns its size. */
int kv_hello_refuse(const char *reason, uint8_t *out);

#endif
