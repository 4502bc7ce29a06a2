/* The node's end of a hello: it takes HELLO and PROOF, and says CHALLENGE, WELCOME or REFUSAL.
 *
 * Guarantees that nothing of a HELLO is believed before its sizes are checked, that versions are
 * agreed before anything else is read, and that a node with a secret is done only with whoever
 * proved it. */

#include "bytes/endian.h"
#include "protocol/hello_wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void kv_hello_begin_node(kv_hello *hello, const kv_hello_grant *grant, const uint8_t *secret,
                         uint32_t secret_size, const uint8_t nonce[KV_NONCE_SIZE])
{
    assert(kv_hello_grant_legal(grant));
    assert(secret != NULL || secret_size == 0);

    *hello = (kv_hello){
        .state = KV_HELLO_WAITS,
        .node = true,
        .secret = secret,
        .secret_size = secret_size,
        .grant = *grant,
        .version_max = kv_hello_version_max(grant->version_max),
        .expected = KV_MESSAGE_HELLO,
    };
    memcpy(hello->nonce, nonce, KV_NONCE_SIZE);
    kv_sha256_init(&hello->transcript);
}

/* 0: both speak hello->version from now on. */
static int version_agree(kv_hello *hello, const uint8_t *columns)
{
    uint32_t low = columns[KV_HELLO_AT_VERSION_MIN];
    uint32_t high = columns[KV_HELLO_AT_VERSION_MAX];

    if (low == 0 || low > high)
        return -EBADMSG;
    if (low > hello->version_max || high < KV_PROTOCOL_VERSION_MIN)
        return -EPROTONOSUPPORT;
    hello->version = high < hello->version_max ? high : hello->version_max;
    return 0;
}

/* What a newer client may add is beyond what this node can judge. */
static bool hello_exact(const kv_hello *hello, const uint8_t *columns, uint32_t columns_size,
                        size_t size)
{
    if (columns[KV_HELLO_AT_VERSION_MAX] > hello->version_max)
        return columns_size >= size;
    return columns_size == size &&
           kv_endian_load_u16(columns + KV_HELLO_AT_FLAGS) <= KV_HELLO_FLAG_PROVES &&
           kv_endian_load_u32(columns + KV_HELLO_AT_RESERVED) == 0;
}

/* Names and token, checked and copied. */
static bool names_take(kv_hello *hello, const uint8_t *columns, uint32_t columns_size)
{
    kv_hello_names *names = &hello->names;
    size_t tenant_size = columns[KV_HELLO_AT_TENANT_SIZE];
    size_t name_space_size = columns[KV_HELLO_AT_NAMESPACE_SIZE];
    uint32_t token_size = kv_endian_load_u16(columns + KV_HELLO_AT_TOKEN_SIZE);
    const char *tenant = (const char *)columns + KV_HELLO_SIZE;
    const char *name_space = tenant + tenant_size;

    if (token_size > KV_TOKEN_SIZE_MAX ||
        !hello_exact(hello, columns, columns_size,
                     KV_HELLO_SIZE + tenant_size + name_space_size + token_size))
        return false;
    if (!kv_hello_name_legal(tenant, tenant_size) ||
        !kv_hello_name_legal(name_space, name_space_size))
        return false;
    memcpy(names->tenant, tenant, tenant_size);
    names->tenant[tenant_size] = '\0';
    memcpy(names->name_space, name_space, name_space_size);
    names->name_space[name_space_size] = '\0';
    memcpy(names->client, columns + KV_HELLO_AT_CLIENT, KV_CLIENT_ID_SIZE);
    memcpy(names->token, name_space + name_space_size, token_size);
    names->token_size = token_size;
    return true;
}

static int challenge_store(kv_hello *hello, uint8_t *out)
{
    uint8_t *columns = out + KV_MESSAGE_HEAD_SIZE;
    int size;

    columns[KV_CHALLENGE_AT_VERSION] = (uint8_t)hello->version;
    columns[KV_CHALLENGE_AT_WANTS_PROOF] = hello->secret_size > 0;
    kv_endian_store_u16(columns + KV_CHALLENGE_AT_RESERVED, 0);
    memcpy(columns + KV_CHALLENGE_AT_NONCE, hello->nonce, KV_NONCE_SIZE);
    size = kv_hello_wrap(KV_MESSAGE_CHALLENGE, KV_CHALLENGE_SIZE, out);
    kv_hello_transcribe(hello, out, (uint32_t)size);
    hello->expected = KV_MESSAGE_PROOF;
    return size;
}

int kv_hello_take_hello(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                        uint8_t *out)
{
    const uint8_t *columns = message + KV_MESSAGE_HEAD_SIZE;
    int agreed;

    assert(hello->node);
    if (columns_size < KV_HELLO_SIZE)
        return kv_hello_fail(hello, -EBADMSG, out, "%u bytes are no HELLO", columns_size);
    agreed = version_agree(hello, columns);
    if (agreed == -EPROTONOSUPPORT)
        return kv_hello_fail(hello, agreed, out, "the client speaks versions %u to %u, this node "
                                                 "%u to %u", columns[KV_HELLO_AT_VERSION_MIN],
                             columns[KV_HELLO_AT_VERSION_MAX], KV_PROTOCOL_VERSION_MIN,
                             hello->version_max);
    if (agreed < 0 || !names_take(hello, columns, columns_size))
        return kv_hello_fail(hello, -EBADMSG, out, "a HELLO has illegal names, sizes or versions");
    if (hello->secret_size > 0 &&
        !(kv_endian_load_u16(columns + KV_HELLO_AT_FLAGS) & KV_HELLO_FLAG_PROVES))
        return kv_hello_fail(hello, -EACCES, out, "this node wants a secret, the client has none");
    kv_hello_transcribe(hello, message, KV_MESSAGE_HEAD_SIZE + columns_size);
    return challenge_store(hello, out);
}

static void grant_store(const kv_hello_grant *grant, uint8_t *columns)
{
    uint8_t *at = columns + KV_WELCOME_AT_GRANT;

    kv_endian_store_u32(at, grant->rights);
    kv_endian_store_u32(at + 4, grant->requests_max);
    kv_endian_store_u32(at + 8, grant->count_max);
    kv_endian_store_u32(at + 12, grant->columns_size_max);
    kv_endian_store_u32(at + 16, grant->values_size_max);
    kv_endian_store_u32(at + 20, grant->stall_timeout_ms);
    kv_endian_store_u32(columns + KV_WELCOME_AT_RESERVED, 0);
    kv_endian_store_u64(columns + KV_WELCOME_AT_NODE, grant->node);
    kv_endian_store_u64(columns + KV_WELCOME_AT_RUN, grant->run);
}

int kv_hello_take_proof(kv_hello *hello, const uint8_t *message, uint32_t columns_size,
                        uint8_t *out)
{
    const uint8_t *columns = message + KV_MESSAGE_HEAD_SIZE;
    uint8_t *answer = out + KV_MESSAGE_HEAD_SIZE;
    uint8_t proof[KV_PROOF_SIZE];

    assert(hello->node);
    if (columns_size != KV_PROOF_COLUMNS_SIZE)
        return kv_hello_fail(hello, -EBADMSG, out, "%u bytes are no PROOF", columns_size);
    kv_hello_prove(hello, "client", NULL, 0, proof);
    if (!kv_sha256_equal(proof, columns + KV_PROOF_AT_PROOF))
        return kv_hello_fail(hello, -EACCES, out, "the client does not prove the secret");

    grant_store(&hello->grant, answer);
    kv_hello_prove(hello, "node", answer + KV_WELCOME_AT_GRANT,
                   KV_WELCOME_SIZE - KV_WELCOME_AT_GRANT, answer + KV_WELCOME_AT_PROOF);
    hello->state = KV_HELLO_DONE;
    return kv_hello_wrap(KV_MESSAGE_WELCOME, KV_WELCOME_SIZE, out);
}
