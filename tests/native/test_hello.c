/* Hello, both ends against each other: what they agree on, who is refused and why, and that nothing
 * altered, replayed, reordered or cut on the way ends well. */

#include "protocol/hello.h"

#include "bytes/endian.h"
#include "bytes/random.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SECRET ((const uint8_t *)"correct horse")
#define OTHER_SECRET ((const uint8_t *)"wrong donkey!")
#define SECRET_SIZE 13u
#define OUT_SIZE KV_HELLO_MESSAGE_SIZE_MAX

static const kv_hello_grant grant = {
    .rights = KV_RIGHT_READ | KV_RIGHT_WRITE,
    .requests_max = 64,
    .count_max = 4096,
    .columns_size_max = 65536,
    .values_size_max = 1 << 20,
    .stall_timeout_ms = 10000,
    .node = 7,
    .run = 0x1122334455667788,
};

/* Both ends, and the message that is on its way. */
typedef struct meeting {
    kv_hello client;
    kv_hello node;
    uint8_t message[OUT_SIZE];
    int size;
} meeting;

static meeting met, again;

static kv_hello_names names_of(const char *tenant, const char *name_space, uint32_t token_size)
{
    static kv_hello_names names;

    memset(&names, 0, sizeof(names));
    strncpy(names.tenant, tenant, KV_NAME_SIZE_MAX);
    strncpy(names.name_space, name_space, KV_NAME_SIZE_MAX);
    memset(names.client, 0xc1, sizeof(names.client));
    memset(names.token, 0x70, token_size);
    names.token_size = token_size;
    return names;
}

static void meeting_begin(meeting *all, const uint8_t *client_secret, const uint8_t *node_secret,
                          uint8_t nonce)
{
    kv_hello_names names = names_of("acme", "kv-cache", 5);
    uint8_t client_nonce[KV_NONCE_SIZE], node_nonce[KV_NONCE_SIZE];

    memset(client_nonce, nonce, sizeof(client_nonce));
    memset(node_nonce, nonce + 1, sizeof(node_nonce));
    kv_hello_begin_node(&all->node, &grant, node_secret, node_secret ? SECRET_SIZE : 0, node_nonce);
    all->size = kv_hello_begin_client(&all->client, &names, client_secret,
                                      client_secret ? SECRET_SIZE : 0, client_nonce, all->message);
    assert(all->size > 0);
}

/* As a connection would: the head is decoded, the message lies in memory of exactly its size. */
static int hello_give(kv_hello *hello, const uint8_t *message, int size, uint8_t *out)
{
    kv_message_head head;
    uint8_t *copy = malloc((size_t)size);
    int result;

    assert(copy != NULL);
    memcpy(copy, message, (size_t)size);
    assert(kv_message_decode(copy, &head) == 0);
    assert((uint32_t)size == KV_MESSAGE_HEAD_SIZE + head.columns_size);
    result = kv_hello_step(hello, &head, copy, out);
    free(copy);
    return result;
}

/* Message number n (0: HELLO) goes to its reader, whose answer is on its way then. */
static void meeting_step(meeting *all, int n)
{
    static uint8_t out[OUT_SIZE];
    int size = hello_give(n % 2 == 0 ? &all->node : &all->client, all->message, all->size, out);

    memcpy(all->message, out, (size_t)size);
    all->size = size;
}

static void meeting_run(meeting *all, int steps)
{
    for (int n = 0; n < steps; n++) {
        assert(all->size > 0);
        meeting_step(all, n);
    }
}

/* After a change of columns on the way. */
static void message_resign(uint8_t *message, int size)
{
    kv_message_seal(message + KV_MESSAGE_HEAD_SIZE, (uint32_t)size - KV_MESSAGE_HEAD_SIZE);
}

static void message_resize(meeting *all, int size)
{
    kv_message_head head;

    assert(kv_message_decode(all->message, &head) == 0);
    head.columns_size = (uint32_t)size - KV_MESSAGE_HEAD_SIZE;
    kv_message_encode(&head, all->message);
    all->size = size;
    message_resign(all->message, size);
}

static void expect_failed(const kv_hello *hello, int error, const char *words)
{
    assert(hello->state == KV_HELLO_FAILED);
    assert(hello->error == error);
    assert(strstr(hello->reason, words) != NULL);
}

static void expect_done(const meeting *all)
{
    assert(all->client.state == KV_HELLO_DONE && all->node.state == KV_HELLO_DONE);
    assert(all->client.version == 1 && all->node.version == 1);
    assert(memcmp(&all->client.grant, &grant, sizeof(grant)) == 0);
    assert(strcmp(all->node.names.tenant, "acme") == 0);
    assert(strcmp(all->node.names.name_space, "kv-cache") == 0);
    assert(all->node.names.token_size == 5);
    assert(memcmp(all->node.names.token, "ppppp", 5) == 0);
    assert(memcmp(all->node.names.client, all->client.names.client, KV_CLIENT_ID_SIZE) == 0);
}

static void ends_with_one_secret_agree(void)
{
    meeting_begin(&met, SECRET, SECRET, 1);
    meeting_run(&met, 4);
    assert(met.size == 0);
    expect_done(&met);
}

static void ends_without_secrets_agree(void)
{
    meeting_begin(&met, NULL, NULL, 1);
    meeting_run(&met, 4);
    expect_done(&met);
}

static void names_and_tokens_of_every_legal_size_arrive(void)
{
    char name[KV_NAME_SIZE_MAX + 1] = {0};
    uint8_t nonce[KV_NONCE_SIZE] = {0};

    for (int size = 1; size <= (int)KV_NAME_SIZE_MAX; size++) {
        kv_hello_names names;
        uint32_t token_size = KV_TOKEN_SIZE_MAX * (uint32_t)size / KV_NAME_SIZE_MAX;

        name[size - 1] = "aZ9-_."[size % 6];
        names = names_of(name, name, token_size);
        kv_hello_begin_node(&met.node, &grant, NULL, 0, nonce);
        met.size = kv_hello_begin_client(&met.client, &names, NULL, 0, nonce, met.message);
        assert(met.size > 0);
        meeting_run(&met, 4);
        assert(met.node.state == KV_HELLO_DONE);
        assert(strcmp(met.node.names.tenant, name) == 0);
        assert(memcmp(&met.node.names, &names, sizeof(names)) == 0);
    }
}

static void illegal_names_and_tokens_do_not_begin(void)
{
    static const char *const illegal[] = {"", "a b", "a/b", "\xc3\xa4", "a\n", "a:b", "a@"};
    uint8_t nonce[KV_NONCE_SIZE] = {0};
    kv_hello_names names;

    for (size_t i = 0; i < sizeof(illegal) / sizeof(illegal[0]); i++) {
        names = names_of(illegal[i], "a", 0);
        assert(kv_hello_begin_client(&met.client, &names, NULL, 0, nonce, met.message) == -EINVAL);
        names = names_of("a", illegal[i], 0);
        assert(kv_hello_begin_client(&met.client, &names, NULL, 0, nonce, met.message) == -EINVAL);
    }
    names = names_of("a", "a", 0);
    memset(names.tenant, 'a', sizeof(names.tenant));
    assert(kv_hello_begin_client(&met.client, &names, NULL, 0, nonce, met.message) == -EINVAL);
    names = names_of("a", "a", 0);
    names.token_size = KV_TOKEN_SIZE_MAX + 1;
    assert(kv_hello_begin_client(&met.client, &names, NULL, 0, nonce, met.message) == -EINVAL);
}

static void a_wrong_secret_is_refused_by_the_node(void)
{
    meeting_begin(&met, OTHER_SECRET, SECRET, 1);
    meeting_run(&met, 3);
    expect_failed(&met.node, -EACCES, "does not prove");
    meeting_step(&met, 3);
    expect_failed(&met.client, -EACCES, "the node refuses: the client does not prove");
    assert(met.size == 0);
}

static void a_client_without_the_secret_is_refused(void)
{
    meeting_begin(&met, NULL, SECRET, 1);
    meeting_step(&met, 0);
    expect_failed(&met.node, -EACCES, "wants a secret");
    meeting_step(&met, 1);
    expect_failed(&met.client, -EACCES, "wants a secret");

    /* Not even when the flag is made up on the way. */
    meeting_begin(&met, NULL, SECRET, 1);
    met.message[KV_MESSAGE_HEAD_SIZE + 10] = 1;
    message_resign(met.message, met.size);
    meeting_step(&met, 0);
    meeting_step(&met, 1);
    expect_failed(&met.client, -EACCES, "this client has none");
    assert(met.size == 0);
}

static void a_client_with_a_secret_refuses_a_node_without(void)
{
    meeting_begin(&met, SECRET, NULL, 1);
    meeting_run(&met, 2);
    expect_failed(&met.client, -EACCES, "no secret to prove");
    assert(met.size == 0);
}

/* A false node that takes any proof cannot make the one that it has to give. */
static void a_client_refuses_a_node_that_does_not_prove_the_secret(void)
{
    static uint8_t proof[OUT_SIZE];

    meeting_begin(&met, SECRET, OTHER_SECRET, 1);
    meeting_begin(&again, OTHER_SECRET, OTHER_SECRET, 1);
    meeting_run(&met, 2);
    meeting_run(&again, 2);
    memcpy(proof, again.message, (size_t)again.size);
    met.size = hello_give(&met.node, proof, again.size, met.message);
    assert(met.node.state == KV_HELLO_DONE);
    meeting_step(&met, 3);
    expect_failed(&met.client, -EACCES, "the node does not prove");
}

static void a_recorded_hello_is_refused_by_another_node(void)
{
    static uint8_t hello[OUT_SIZE], proof[OUT_SIZE], out[OUT_SIZE];
    int hello_size, proof_size;

    meeting_begin(&met, SECRET, SECRET, 1);
    memcpy(hello, met.message, (size_t)met.size);
    hello_size = met.size;
    meeting_run(&met, 2);
    memcpy(proof, met.message, (size_t)met.size);
    proof_size = met.size;

    meeting_begin(&again, SECRET, SECRET, 9);
    assert(hello_give(&again.node, hello, hello_size, out) > 0);
    assert(again.node.state == KV_HELLO_WAITS);
    assert(hello_give(&again.node, proof, proof_size, out) > 0);
    expect_failed(&again.node, -EACCES, "does not prove");
}

static void a_recorded_welcome_is_refused_by_another_client(void)
{
    meeting_begin(&met, SECRET, SECRET, 1);
    meeting_run(&met, 3);
    meeting_begin(&again, SECRET, SECRET, 9);
    meeting_run(&again, 3);
    memcpy(again.message, met.message, (size_t)met.size);
    meeting_step(&again, 3);
    expect_failed(&again.client, -EACCES, "the node does not prove");
}

static void a_proof_cannot_be_sent_back(void)
{
    uint8_t proof[KV_PROOF_SIZE];

    meeting_begin(&met, SECRET, SECRET, 1);
    meeting_run(&met, 2);
    memcpy(proof, met.message + KV_MESSAGE_HEAD_SIZE + 4, sizeof(proof));
    meeting_step(&met, 2);
    memcpy(met.message + KV_MESSAGE_HEAD_SIZE + 4, proof, sizeof(proof));
    message_resign(met.message, met.size);
    meeting_step(&met, 3);
    expect_failed(&met.client, -EACCES, "the node does not prove");
}

static void versions_offer(meeting *all, uint8_t low, uint8_t high)
{
    all->message[KV_MESSAGE_HEAD_SIZE + 4] = low;
    all->message[KV_MESSAGE_HEAD_SIZE + 5] = high;
    message_resign(all->message, all->size);
}

static void a_client_of_later_versions_learns_what_the_node_speaks(void)
{
    meeting_begin(&met, NULL, NULL, 1);
    versions_offer(&met, 2, 9);
    meeting_step(&met, 0);
    expect_failed(&met.node, -EPROTONOSUPPORT, "versions 2 to 9, this node 1 to 1");
    assert(met.message[5] == KV_MESSAGE_REFUSAL);
    assert(met.message[KV_MESSAGE_HEAD_SIZE + 4] == KV_PROTOCOL_VERSION_MIN);
    assert(met.message[KV_MESSAGE_HEAD_SIZE + 5] == KV_PROTOCOL_VERSION_MAX);
    meeting_step(&met, 1);
    expect_failed(&met.client, -EPROTONOSUPPORT, "this node 1 to 1");
}

static void versions_that_make_no_range_are_refused(void)
{
    static const uint8_t ranges[][2] = {{0, 0}, {0, 1}, {2, 1}, {255, 0}};

    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        meeting_begin(&met, NULL, NULL, 1);
        versions_offer(&met, ranges[i][0], ranges[i][1]);
        meeting_step(&met, 0);
        expect_failed(&met.node, -EBADMSG, "versions");
    }
}

static void a_later_hello_may_have_more_in_it(void)
{
    meeting_begin(&met, NULL, NULL, 1);
    met.message[KV_MESSAGE_HEAD_SIZE + 11] = 0x80;
    met.message[KV_MESSAGE_HEAD_SIZE + 12] = 1;
    memset(met.message + met.size, 0xee, 100);
    message_resize(&met, met.size + 100);
    versions_offer(&met, 1, 9);
    meeting_step(&met, 0);
    assert(met.node.state == KV_HELLO_WAITS && met.node.version == 1);
    assert(met.message[5] == KV_MESSAGE_CHALLENGE);

    /* One that offers no later version may not. */
    meeting_begin(&met, NULL, NULL, 1);
    message_resize(&met, met.size + 1);
    meeting_step(&met, 0);
    expect_failed(&met.node, -EBADMSG, "HELLO");
}

static void a_version_cannot_be_talked_down(void)
{
    meeting_begin(&met, SECRET, SECRET, 1);
    versions_offer(&met, 1, 9);
    meeting_run(&met, 3);
    expect_failed(&met.node, -EACCES, "does not prove");

    meeting_begin(&met, SECRET, SECRET, 1);
    meeting_step(&met, 0);
    met.message[KV_MESSAGE_HEAD_SIZE + 4] = 2;
    message_resign(met.message, met.size);
    meeting_step(&met, 1);
    expect_failed(&met.client, -EPROTONOSUPPORT, "version 2");
}

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
    static const uint32_t expected[4] = {0x28af7c07, 0x767d54f0, 0xa4531804, 0x5c5be51e};

    meeting_begin(&met, SECRET, SECRET, 1);
    for (int n = 0; n < 4; n++) {
        assert(kv_checksum(0, met.message, (size_t)met.size) == expected[n]);
        meeting_step(&met, n);
    }
    met.size = kv_hello_refuse("draining", met.message);
    assert(met.size == 32 + 8 + 8);
    assert(memcmp(met.message + 36, "\1\1\0\0draining", 12) == 0);
}

int main(void)
{
    ends_with_one_secret_agree();
    ends_without_secrets_agree();
    names_and_tokens_of_every_legal_size_arrive();
    illegal_names_and_tokens_do_not_begin();
    a_wrong_secret_is_refused_by_the_node();
    a_client_without_the_secret_is_refused();
    a_client_with_a_secret_refuses_a_node_without();
    a_client_refuses_a_node_that_does_not_prove_the_secret();
    a_recorded_hello_is_refused_by_another_node();
    a_recorded_welcome_is_refused_by_another_client();
    a_proof_cannot_be_sent_back();
    a_client_of_later_versions_learns_what_the_node_speaks();
    versions_that_make_no_range_are_refused();
    a_later_hello_may_have_more_in_it();
    a_version_cannot_be_talked_down();
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
