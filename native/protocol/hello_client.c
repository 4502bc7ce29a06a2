/* The client's end of a hello: it says HELLO and PROOF, and takes CHALLENGE, WELCOME or REFUSAL.
 *
 * Guarantees that a client with a secret is done only with a node that proved it, over the very
 * versions, names and limits that the client sees. What a REFUSAL says is not proven by anybody. */

#include "bytes/endian.h"
#include "protocol/hello_wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static uint8_t *name_store(uint8_t *at, const char *name, size_t size)
{
    memcpy(at, name, size);
    return at + size;
}

static int hello_store(const kv_hello *hello, size_t tenant_size, size_t name_space_size,
                       uint8_t *out)
{
    const kv_hello_names *names = &hello->names;
    uint8_t *columns = out + KV_MESSAGE_HEAD_SIZE;
    uint8_t *at = columns + KV_HELLO_SIZE;

    columns[KV_HELLO_AT_VERSION_MIN] = KV_PROTOCOL_VERSION_MIN;
    columns[KV_HELLO_AT_VERSION_MAX] = (uint8_t)hello->version_max;
    columns[KV_HELLO_AT_TENANT_SIZE] = (uint8_t)tenant_size;
    columns[KV_HELLO_AT_NAMESPACE_SIZE] = (uint8_t)name_space_size;
    kv_endian_store_u16(columns + KV_HELLO_AT_TOKEN_SIZE, (uint16_t)names->token_size);
    kv_endian_store_u16(columns + KV_HELLO_AT_FLAGS,
                        hello->secret_size > 0 ? KV_HELLO_FLAG_PROVES : 0);
    kv_endian_store_u32(columns + KV_HELLO_AT_RESERVED, 0);
    memcpy(columns + KV_HELLO_AT_CLIENT, names->client, KV_CLIENT_ID_SIZE);
    memcpy(columns + KV_HELLO_AT_NONCE, hello->nonce, KV_NONCE_SIZE);
    at = name_store(at, names->tenant, tenant_size);
    at = name_store(at, names->name_space, name_space_size);
    memcpy(at, names->token, names->token_size);
    at += names->token_size;
    return kv_hello_wrap(KV_MESSAGE_HELLO, (uint32_t)(at - columns), out);
}

int kv_hello_begin_client(kv_hello *hello, const kv_hello_names *names, const uint8_t *secret,
                          uint32_t secret_size, const uint8_t nonce[KV_NONCE_SIZE], uint8_t *out)
{
    size_t tenant_size = strnlen(names->tenant, sizeof(names->tenant));
    size_t name_space_size = strnlen(names->name_space, sizeof(names->name_space));
    int size;

    assert(secret != NULL || secret_size == 0);
    if (!kv_hello_name_legal(names->tenant, tenant_size) ||
        !kv_hello_name_legal(names->name_space, name_space_size) ||
        names->token_size > KV_TOKEN_SIZE_MAX)
        return -EINVAL;

    *hello = (kv_hello){
        .state = KV_HELLO_WAITS,
        .secret = secret,
        .secret_size = secret_size,
        .names = *names,
        .version_max = kv_hello_version_max(names->version_max),
        .expected = KV_MESSAGE_CHALLENGE,
    };
    memcpy(hello->nonce, nonce, KV_NONCE_SIZE);
    kv_sha256_init(&hello->transcript);
    size = hello_store(hello, tenant_size, name_space_size, out);
    kv_hello_transcribe(hello, out, (uint32_t)size);
    return size;
}

int kv_hello_take_challenge(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                            uint8_t *out)
{
    const uint8_t *columns = message + KV_MESSAGE_HEAD_SIZE;
    uint32_t version;
    bool proven;

    assert(!hello->node);
    if (columns_size != KV_CHALLENGE_SIZE || columns[KV_CHALLENGE_AT_WANTS_PROOF] > 1 ||
        kv_endian_load_u16(columns + KV_CHALLENGE_AT_RESERVED) != 0)
        return kv_hello_fail(hello, -EBADMSG, out, "%u bytes are no CHALLENGE", columns_size);
    version = columns[KV_CHALLENGE_AT_VERSION];
    proven = columns[KV_CHALLENGE_AT_WANTS_PROOF] == 1;
    if (version < KV_PROTOCOL_VERSION_MIN || version > hello->version_max)
        return kv_hello_fail(hello, -EPROTONOSUPPORT, out,
                             "the node speaks version %u, which was not offered", version);
    if (!proven && hello->secret_size > 0)
        return kv_hello_fail(hello, -EACCES, out, "the node has no secret to prove");
    if (proven && hello->secret_size == 0)
        return kv_hello_fail(hello, -EACCES, out, "the node wants a secret, this client has none");

    hello->version = version;
    kv_hello_transcribe(hello, message, KV_MESSAGE_HEAD_SIZE + columns_size);
    hello->expected = KV_MESSAGE_WELCOME;
    kv_hello_prove(hello, "client", NULL, 0, out + KV_MESSAGE_HEAD_SIZE + KV_PROOF_AT_PROOF);
    return kv_hello_wrap(KV_MESSAGE_PROOF, KV_PROOF_COLUMNS_SIZE, out);
}

static kv_hello_grant grant_load(const uint8_t *columns)
{
    const uint8_t *at = columns + KV_WELCOME_AT_GRANT;

    return (kv_hello_grant){
        .rights = kv_endian_load_u32(at),
        .requests_max = kv_endian_load_u32(at + 4),
        .count_max = kv_endian_load_u32(at + 8),
        .columns_size_max = kv_endian_load_u32(at + 12),
        .values_size_max = kv_endian_load_u32(at + 16),
        .stall_timeout_ms = kv_endian_load_u32(at + 20),
        .node = kv_endian_load_u64(columns + KV_WELCOME_AT_NODE),
        .run = kv_endian_load_u64(columns + KV_WELCOME_AT_RUN),
    };
}

/* The proof is looked at first: what an unproven node grants is of no interest. */
int kv_hello_take_welcome(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                          uint8_t *out)
{
    const uint8_t *columns = message + KV_MESSAGE_HEAD_SIZE;
    uint8_t proof[KV_PROOF_SIZE];
    kv_hello_grant grant;

    assert(!hello->node);
    if (columns_size != KV_WELCOME_SIZE)
        return kv_hello_fail(hello, -EBADMSG, out, "%u bytes are no WELCOME", columns_size);
    kv_hello_prove(hello, "node", columns + KV_WELCOME_AT_GRANT,
                   KV_WELCOME_SIZE - KV_WELCOME_AT_GRANT, proof);
    if (!kv_sha256_equal(proof, columns + KV_WELCOME_AT_PROOF))
        return kv_hello_fail(hello, -EACCES, out, "the node does not prove the secret");
    grant = grant_load(columns);
    if (!kv_hello_grant_legal(&grant) || kv_endian_load_u32(columns + KV_WELCOME_AT_RESERVED) != 0)
        return kv_hello_fail(hello, -EBADMSG, out, "a WELCOME grants illegal limits");
    hello->grant = grant;
    hello->state = KV_HELLO_DONE;
    return 0;
}

/* The reason goes to logs and terminals: whatever is not printable ASCII is masked. */
static void reason_load(char *text, const uint8_t *bytes, size_t size)
{
    if (size > KV_MESSAGE_SIZE - 1)
        size = KV_MESSAGE_SIZE - 1;
    for (size_t i = 0; i < size; i++)
        text[i] = bytes[i] >= ' ' && bytes[i] < 0x7f ? (char)bytes[i] : '?';
    text[size] = '\0';
}

int kv_hello_take_refusal(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                          uint8_t *out)
{
    const uint8_t *columns = message + KV_MESSAGE_HEAD_SIZE;
    char reason[KV_MESSAGE_SIZE];
    int error = -ECONNREFUSED;

    assert(!hello->node);
    if (columns_size < KV_REFUSAL_SIZE)
        return kv_hello_fail(hello, -EBADMSG, out, "%u bytes are no REFUSAL", columns_size);
    if (kv_endian_load_u16(columns + KV_REFUSAL_AT_KIND) == KV_REFUSAL_SECRET)
        error = -EACCES;
    if (kv_endian_load_u16(columns + KV_REFUSAL_AT_KIND) == KV_REFUSAL_VERSION)
        error = -EPROTONOSUPPORT;
    reason_load(reason, columns + KV_REFUSAL_SIZE, columns_size - KV_REFUSAL_SIZE);
    return kv_hello_fail(hello, error, out, "the node refuses: %s", reason);
}
