/* The messages of a hello: what is altered, cut, reordered or lies is refused, and the bytes are those
 * they always were. */

#include "bytes/endian.h"
#include "hello_meeting.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* With a secret, no byte of any message can be changed on the way, its CRC repaired, without one of
 * the ends noticing. */
static void nothing_can_be_altered_on_the_way(void)
{
    for (int altered = 0; altered < 4; altered++)
        for (int at = 0;; at++) {
            bool failed;

            meeting_begin(&met, SECRET, SECRET, 1);
            meeting_run(&met, altered);
            if (at + (int)KV_MESSAGE_HEAD_SIZE + 4 >= met.size)
                break;
            met.message[(int)KV_MESSAGE_HEAD_SIZE + 4 + at] ^= (uint8_t)(1 + at % 255);
            message_resign(met.message, met.size);
            for (int n = altered; n < 4 && met.size > 0; n++)
                meeting_step(&met, n);
            failed = met.client.state == KV_HELLO_FAILED || met.node.state == KV_HELLO_FAILED;
            assert(failed);
            assert(met.client.state != KV_HELLO_DONE);
        }
}

static void damaged_messages_are_refused(void)
{
    for (int n = 0; n < 4; n++) {
        kv_hello *reader = n % 2 == 0 ? &met.node : &met.client;

        meeting_begin(&met, SECRET, SECRET, 1);
        meeting_run(&met, n);
        met.message[met.size - 1] ^= 1;
        meeting_step(&met, n);
        expect_failed(reader, -EBADMSG, "damaged");
    }
}

static void every_truncation_is_refused(void)
{
    for (int n = 0; n < 4; n++)
        for (int size = (int)KV_MESSAGE_HEAD_SIZE + 4;; size++) {
            kv_hello *reader = n % 2 == 0 ? &met.node : &met.client;

            meeting_begin(&met, SECRET, SECRET, 1);
            meeting_run(&met, n);
            if (size == met.size)
                break;
            message_resize(&met, size);
            meeting_step(&met, n);
            expect_failed(reader, -EBADMSG, "");
        }
}

static void messages_out_of_order_are_refused_by_their_heads(void)
{
    static const uint8_t kinds[] = {
        KV_MESSAGE_HELLO,   KV_MESSAGE_CHALLENGE, KV_MESSAGE_PROOF,  KV_MESSAGE_WELCOME,
        KV_MESSAGE_REFUSAL, KV_MESSAGE_REQUEST,   KV_MESSAGE_CONTROL};
    static uint8_t out[OUT_SIZE];

    for (int n = 0; n < 4; n++)
        for (size_t i = 0; i < sizeof(kinds); i++) {
            kv_hello *reader = n % 2 == 0 ? &met.node : &met.client;
            kv_message_head head = {.version = 1, .kind = kinds[i], .columns_size = 100};
            int size;

            if (kinds[i] == KV_MESSAGE_HELLO + n || (n % 2 && kinds[i] == KV_MESSAGE_REFUSAL))
                continue;
            meeting_begin(&met, SECRET, SECRET, 1);
            meeting_run(&met, n);
            size = kv_hello_step(reader, &head, NULL, out);
            expect_failed(reader, -EPROTO, "is due one of kind");
            assert((size > 0) == (n % 2 == 0));
        }
}

static void heads_with_reserved_bits_are_refused(void)
{
    for (int field = 0; field < 2; field++) {
        static uint8_t out[OUT_SIZE];
        kv_message_head head;

        meeting_begin(&met, NULL, NULL, 1);
        assert(kv_message_decode(met.message, &head) == 0);
        if (field == 0)
            head.flags = 1;
        else
            head.request = 1;
        assert(kv_hello_step(&met.node, &head, met.message, out) > 0);
        expect_failed(&met.node, -EBADMSG, "reserved");
    }
}

static void sizes_that_lie_are_refused(void)
{
    static const struct {
        int at;
        uint8_t value;
    } lies[] = {{6, 0}, {6, 64}, {6, 255}, {7, 0}, {7, 255}, {9, 0x10}, {9, 255}, {8, 4}, {10, 2}};

    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        meeting_begin(&met, NULL, NULL, 1);
        met.message[(int)KV_MESSAGE_HEAD_SIZE + lies[i].at] = lies[i].value;
        message_resign(met.message, met.size);
        meeting_step(&met, 0);
        expect_failed(&met.node, -EBADMSG, "HELLO");
    }
}

/* A token above the limit, in a message that is otherwise whole. */
static void an_oversize_token_is_refused(void)
{
    kv_hello_names names = names_of("acme", "kv-cache", KV_TOKEN_SIZE_MAX);
    uint8_t nonce[KV_NONCE_SIZE] = {0};

    kv_hello_begin_node(&met.node, &grant, NULL, 0, nonce);
    met.size = kv_hello_begin_client(&met.client, &names, NULL, 0, nonce, met.message);
    met.message[met.size] = 0x70;
    kv_endian_store_u16(met.message + KV_MESSAGE_HEAD_SIZE + 8, KV_TOKEN_SIZE_MAX + 1);
    message_resize(&met, met.size + 1);
    meeting_step(&met, 0);
    expect_failed(&met.node, -EBADMSG, "HELLO");
}

static void illegal_limits_are_refused_by_the_client(void)
{
    static const struct {
        int at;
        uint32_t value;
    } wrong[] = {{40, 0}, {44, 0}, {44, 4097}, {48, 2047}, {48, UINT32_MAX}, {52, 0},
                 {52, UINT32_MAX}, {60, 1}};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        meeting_begin(&met, NULL, NULL, 1);
        meeting_run(&met, 3);
        kv_endian_store_u32(met.message + KV_MESSAGE_HEAD_SIZE + wrong[i].at, wrong[i].value);
        message_resign(met.message, met.size);
        meeting_step(&met, 3);
        expect_failed(&met.client, -EBADMSG, "illegal limits");
    }
}

static void a_refusal_says_why_in_printable_letters(void)
{
    char reason[2 * KV_MESSAGE_SIZE];

    meeting_begin(&met, SECRET, SECRET, 1);
    met.size = kv_hello_refuse("too many\n\x1b[2J connections", met.message);
    meeting_step(&met, 1);
    expect_failed(&met.client, -ECONNREFUSED, "the node refuses: too many??[2J connections");

    memset(reason, 'r', sizeof(reason));
    reason[sizeof(reason) - 1] = '\0';
    meeting_begin(&met, SECRET, SECRET, 1);
    met.size = kv_hello_refuse(reason, met.message);
    meeting_step(&met, 1);
    expect_failed(&met.client, -ECONNREFUSED, "the node refuses: rrrr");
    assert(strlen(met.client.reason) == KV_MESSAGE_SIZE - 1);
}

static void each_message_has_the_bytes_it_always_had(void)
{
    static const uint32_t expected[KV_PROTOCOL_VERSION_MAX][4] = {
        {0x28af7c07, 0x767d54f0, 0xa4531804, 0x5c5be51e},
        {0x77636eb3, 0x94b0da7c, 0x9f1a678e, 0xa5446407},
    };

    for (uint32_t version = 1; version <= KV_PROTOCOL_VERSION_MAX; version++) {
        kv_hello_names names = names_of("acme", "kv-cache", 5);
        uint8_t nonce[KV_NONCE_SIZE];

        names.version_max = version;
        meeting_begin(&met, SECRET, SECRET, 1);
        memset(nonce, 1, sizeof(nonce));
        met.size = kv_hello_begin_client(&met.client, &names, SECRET, SECRET_SIZE, nonce,
                                         met.message);
        for (int n = 0; n < 4; n++) {
            assert(kv_checksum(0, met.message, (size_t)met.size) == expected[version - 1][n]);
            meeting_step(&met, n);
        }
    }
    met.size = kv_hello_refuse("draining", met.message);
    assert(met.size == 32 + 8 + 8);
    assert(memcmp(met.message + 36, "\1\2\0\0draining", 12) == 0);
}

int main(void)
{
    nothing_can_be_altered_on_the_way();
    damaged_messages_are_refused();
    every_truncation_is_refused();
    messages_out_of_order_are_refused_by_their_heads();
    heads_with_reserved_bits_are_refused();
    sizes_that_lie_are_refused();
    an_oversize_token_is_refused();
    illegal_limits_are_refused_by_the_client();
    a_refusal_says_why_in_printable_letters();
    each_message_has_the_bytes_it_always_had();
    return 0;
}
