/* See space_question.h. */

#include "node/space_question.h"

#include <assert.h>

static uint32_t columns_size(kv_peer_message *message)
{
    (void)message;
    return kv_forward_columns_size(0, 0);
}

static uint32_t encode(kv_peer_message *message, kv_message_head *head, uint8_t *columns)
{
    kv_space_question *question = KV_CONTAINER(message, kv_space_question, message);
    kv_chain *chain = question->chain;
    kv_wire_forward wire = {.forward = KV_FORWARD_SPACE};

    (void)head;
    question->target = wire.target = kv_chain_aim(chain).target;
    /* Relaxed: with an older one the question is refused, and put again. */
    wire.chain_version = atomic_load_explicit(&chain->version, memory_order_relaxed);
    return kv_forward_encode(&wire, NULL, NULL, columns);
}

/* Whatever it says, who asked asks again soon. */
static int answered(kv_peer_message *message, const kv_message_head *head, const uint8_t *columns)
{
    kv_space_question *question = KV_CONTAINER(message, kv_space_question, message);
    kv_wire_forwarded answer;
    int error = kv_forwarded_decode(head, columns, 0, &answer);

    if (error < 0)
        return error;
    question->asked = false;
    if (answer.status == KV_OK) {
        kv_peer_resume(*kv_chain_peer_place(question->chain, question->loop, true));
        kv_chain_hear(question->chain, question->target, &answer);
    }
    return 0;
}

static void freed(kv_peer_message *message)
{
    kv_space_question *question = KV_CONTAINER(message, kv_space_question, message);

    question->asked = question->dropping = false;
}

/* The answers to forwards must do. */
static void unspoken(kv_peer_message *message)
{
    KV_CONTAINER(message, kv_space_question, message)->asked = false;
}

static const kv_peer_sender sender = {.columns_size = columns_size,
                                      .encode = encode,
                                      .answered = answered,
                                      .version_min = KV_PROTOCOL_VERSION_SPACE,
                                      .unspoken = unspoken,
                                      .freed = freed};

void kv_space_question_init(kv_space_question *question, kv_chain *chain, kv_loop *loop)
{
    *question = (kv_space_question){.chain = chain, .loop = loop};
    kv_list_init(&question->message.link);
    question->message.sender = &sender;
    question->message.kind = KV_MESSAGE_FORWARD;
}

void kv_space_question_ask(kv_space_question *question)
{
    kv_peer *peer;

    if (question->asked)
        return;
    peer = kv_chain_peer(question->chain, question->loop, true);
    if (!peer)
        return; /* no memory: it is asked again */
    assert(question->message.state == KV_PEER_IDLE);
    question->asked = true;
    kv_peer_send(peer, &question->message);
}

void kv_space_question_drop(kv_space_question *question)
{
    kv_peer *peer = *kv_chain_peer_place(question->chain, question->loop, true);

    if (!question->asked || question->dropping)
        return;
    question->dropping = question->message.state != KV_PEER_IDLE &&
                         !kv_peer_drop(peer, &question->message);
    question->asked = question->dropping;
}
