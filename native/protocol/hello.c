/* What both ends of a hello share: the order of messages, proofs, names, and how it fails.
 *
 *   client: NEW ─begin─► WAITS for CHALLENGE ─► WAITS for WELCOME ─► DONE
 *   node:   NEW ─begin─► WAITS for HELLO ─────► WAITS for PROOF ───► DONE      any of them ─► FAILED
 *
 * Invariants: an end that is not WAITS takes no message; DONE is reached only by way of every message
 * of the row, and with a secret only behind the other end's proof over both nonces. */

#include "bytes/endian.h"
#include "protocol/hello_wire.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert(KV_HELLO_SIZE + 2 * KV_NAME_SIZE_MAX + KV_TOKEN_SIZE_MAX <=
                   KV_MESSAGE_HELLO_SIZE_MAX,
               "the largest HELLO fits its limit");
_Static_assert(KV_REFUSAL_SIZE + KV_MESSAGE_SIZE <= KV_MESSAGE_HELLO_SIZE_MAX,
               "the longest reason fits its limit");
_Static_assert(KV_PROTOCOL_VERSION_MAX <= UINT8_MAX, "a version fits its byte");
_Static_assert(KV_HELLO_COLUMNS_SIZE_MIN >= KV_KEY_SIZE_LIMIT + 64,
               "a request for one key fits any grant");

bool kv_hello_name_legal(const char *name, size_t size)
{
    if (size == 0 || size > KV_NAME_SIZE_MAX)
        return false;
    for (size_t i = 0; i < size; i++) {
        char letter = name[i];
        bool legal = (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
                     (letter >= '0' && letter <= '9') || letter == '-' || letter == '_' ||
                     letter == '.';

        if (!legal)
            return false;
    }
    return true;
}

bool kv_hello_grant_legal(const kv_hello_grant *grant)
{
    return grant->requests_max > 0 && grant->count_max > 0 &&
           grant->count_max <= KV_MESSAGE_COUNT_MAX &&
           grant->columns_size_max >= KV_HELLO_COLUMNS_SIZE_MIN &&
           grant->columns_size_max <= KV_MESSAGE_COLUMNS_SIZE_MAX && grant->values_size_max > 0 &&
           grant->values_size_max <= KV_MESSAGE_VALUES_SIZE_MAX;
}

uint32_t kv_hello_version_max(uint32_t told)
{
    return told > 0 && told < KV_PROTOCOL_VERSION_MAX ? told : KV_PROTOCOL_VERSION_MAX;
}

int kv_hello_wrap(uint8_t kind, uint32_t columns_size, uint8_t *out)
{
    kv_message_head head = {
        .version = KV_MESSAGE_HELLO_VERSION, .kind = kind, .columns_size = columns_size};

    kv_message_encode(&head, out);
    kv_message_seal(out + KV_MESSAGE_HEAD_SIZE, columns_size);
    return (int)(KV_MESSAGE_HEAD_SIZE + columns_size);
}

static int refusal_store(kv_refusal_kind kind, uint32_t version_max, const char *reason,
                         uint8_t *out)
{
    uint8_t *columns = out + KV_MESSAGE_HEAD_SIZE;
    size_t size = strnlen(reason, KV_MESSAGE_SIZE - 1);

    columns[KV_REFUSAL_AT_VERSION_MIN] = KV_PROTOCOL_VERSION_MIN;
    columns[KV_REFUSAL_AT_VERSION_MAX] = (uint8_t)version_max;
    kv_endian_store_u16(columns + KV_REFUSAL_AT_KIND, (uint16_t)kind);
    memcpy(columns + KV_REFUSAL_SIZE, reason, size);
    return kv_hello_wrap(KV_MESSAGE_REFUSAL, KV_REFUSAL_SIZE + (uint32_t)size, out);
}

int kv_hello_refuse(const char *reason, uint8_t *out)
{
    assert(reason != NULL);
    return refusal_store(KV_REFUSAL_OTHER, KV_PROTOCOL_VERSION_MAX, reason, out);
}

int kv_hello_fail(kv_hello *hello, int error, uint8_t *out, const char *format, ...)
{
    kv_refusal_kind kind = error == -EACCES            ? KV_REFUSAL_SECRET
                           : error == -EPROTONOSUPPORT ? KV_REFUSAL_VERSION
                                                       : KV_REFUSAL_OTHER;
    va_list arguments;

    assert(error < 0);
    assert(hello->state == KV_HELLO_WAITS);
    hello->state = KV_HELLO_FAILED;
    hello->error = error;
    va_start(arguments, format);
    vsnprintf(hello->reason, sizeof(hello->reason), format, arguments);
    va_end(arguments);
    return hello->node ? refusal_store(kind, hello->version_max, hello->reason, out) : 0;
}

void kv_hello_transcribe(kv_hello *hello, const uint8_t *message, uint32_t size)
{
    kv_sha256_add(&hello->transcript, message, size);
}

/* The name of the role ends with its zero byte, so that no role is the beginning of another, and a
 * proof cannot be sent back to whom it came from. */
void kv_hello_prove(const kv_hello *hello, const char *role, const uint8_t *grant,
                    uint32_t grant_size, uint8_t proof[KV_PROOF_SIZE])
{
    kv_sha256 transcript = hello->transcript;
    uint8_t digest[KV_SHA256_SIZE];
    kv_hmac hmac;

    memset(proof, 0, KV_PROOF_SIZE);
    if (hello->secret_size == 0)
        return;
    kv_sha256_end(&transcript, digest);
    kv_hmac_init(&hmac, hello->secret, hello->secret_size);
    kv_hmac_add(&hmac, role, strlen(role) + 1);
    kv_hmac_add(&hmac, digest, sizeof(digest));
    kv_hmac_add(&hmac, grant, grant_size);
    kv_hmac_end(&hmac, proof);
}

static int message_take(kv_hello *hello, const kv_message_head *head, const uint8_t *bytes,
                        uint8_t *out)
{
    switch (head->kind) {
    case KV_MESSAGE_HELLO:
        return kv_hello_take_hello(hello, bytes, head->columns_size, out);
    case KV_MESSAGE_CHALLENGE:
        return kv_hello_take_challenge(hello, bytes, head->columns_size, out);
    case KV_MESSAGE_PROOF:
        return kv_hello_take_proof(hello, bytes, head->columns_size, out);
    case KV_MESSAGE_WELCOME:
        return kv_hello_take_welcome(hello, bytes, head->columns_size, out);
    default:
        assert(head->kind == KV_MESSAGE_REFUSAL);
        return kv_hello_take_refusal(hello, bytes, head->columns_size, out);
    }
}

int kv_hello_step(kv_hello *hello, const kv_message_head *head, const uint8_t *bytes, uint8_t *out)
{
    bool refused = !hello->node && head->kind == KV_MESSAGE_REFUSAL;

    assert(hello->state == KV_HELLO_WAITS);
    if (head->kind != hello->expected && !refused)
        return kv_hello_fail(hello, -EPROTO, out, "a message of kind %u came in a hello that is due "
                                                  "one of kind %u", head->kind, hello->expected);
    assert(head->columns_size <= KV_MESSAGE_HELLO_SIZE_MAX);
    if (head->flags != 0 || head->request != 0 || head->count != 0)
        return kv_hello_fail(hello, -EBADMSG, out, "reserved bits of a hello are set");
    if (kv_message_verify(bytes + KV_MESSAGE_HEAD_SIZE, head->columns_size) < 0)
        return kv_hello_fail(hello, -EBADMSG, out, "a message of the hello is damaged");
    return message_take(hello, head, bytes, out);
}
