/* Hello, both ends against each other: what they agree on, who is refused and why, and that nothing
 * recorded elsewhere is believed. */

#include "hello_meeting.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* The other meeting, where something is recorded. */
static meeting again;

static void expect_done(const meeting *all)
{
    assert(all->client.state == KV_HELLO_DONE && all->node.state == KV_HELLO_DONE);
    assert(all->client.version == KV_PROTOCOL_VERSION_MAX);
    assert(all->node.version == KV_PROTOCOL_VERSION_MAX);
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
    versions_offer(&met, 3, 9);
    meeting_step(&met, 0);
    expect_failed(&met.node, -EPROTONOSUPPORT, "versions 3 to 9, this node 1 to 2");
    assert(met.message[5] == KV_MESSAGE_REFUSAL);
    assert(met.message[KV_MESSAGE_HEAD_SIZE + 4] == KV_PROTOCOL_VERSION_MIN);
    assert(met.message[KV_MESSAGE_HEAD_SIZE + 5] == KV_PROTOCOL_VERSION_MAX);
    meeting_step(&met, 1);
    expect_failed(&met.client, -EPROTONOSUPPORT, "this node 1 to 2");
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
    assert(met.node.state == KV_HELLO_WAITS && met.node.version == KV_PROTOCOL_VERSION_MAX);
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
    met.message[KV_MESSAGE_HEAD_SIZE + 4] = 3;
    message_resign(met.message, met.size);
    meeting_step(&met, 1);
    expect_failed(&met.client, -EPROTONOSUPPORT, "version 3");
}

/* In either order of ends, and where both are held back. */
static void ends_agree_on_the_highest_version_that_both_speak(void)
{
    static const uint32_t told[][3] = {{1, 0, 1}, {0, 1, 1}, {1, 1, 1}, {2, 1, 1}, {2, 9, 2}};

    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
        kv_hello_names names = names_of("acme", "kv-cache", 5);
        kv_hello_grant limited = grant;
        uint8_t nonce[KV_NONCE_SIZE] = {1};

        names.version_max = told[i][0];
        limited.version_max = told[i][1];
        kv_hello_begin_node(&met.node, &limited, SECRET, SECRET_SIZE, nonce);
        met.size = kv_hello_begin_client(&met.client, &names, SECRET, SECRET_SIZE, nonce,
                                         met.message);
        meeting_run(&met, 4);
        assert(met.client.state == KV_HELLO_DONE && met.node.state == KV_HELLO_DONE);
        assert(met.client.version == told[i][2] && met.node.version == told[i][2]);
    }
}

/* It says so, and a later client's HELLO may be longer than it knows. */
static void a_node_that_is_held_back_is_as_one_of_that_version(void)
{
    kv_hello_grant limited = grant;
    uint8_t nonce[KV_NONCE_SIZE] = {1};

    limited.version_max = 1;
    meeting_begin(&met, NULL, NULL, 1);
    kv_hello_begin_node(&met.node, &limited, NULL, 0, nonce);
    versions_offer(&met, 2, 2);
    meeting_step(&met, 0);
    expect_failed(&met.node, -EPROTONOSUPPORT, "versions 2 to 2, this node 1 to 1");
    assert(met.message[KV_MESSAGE_HEAD_SIZE + 5] == 1);

    meeting_begin(&met, NULL, NULL, 1);
    kv_hello_begin_node(&met.node, &limited, NULL, 0, nonce);
    met.message[KV_MESSAGE_HEAD_SIZE + 12] = 1;
    message_resign(met.message, met.size);
    meeting_step(&met, 0);
    assert(met.node.state == KV_HELLO_WAITS && met.node.version == 1);
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
    ends_agree_on_the_highest_version_that_both_speak();
    a_node_that_is_held_back_is_as_one_of_that_version();
    return 0;
}
