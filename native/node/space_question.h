/* A question to a chain's successor: what is free there and further down, and what is lacking. It
 * changes nothing, and waits for nothing that waits for space: it goes by the connection of
 * evictions. Its answer is kept with the chain, as that of any forward (kv_chain_hear). One
 * loop's. */
#ifndef KV_SPACE_QUESTION_H
#define KV_SPACE_QUESTION_H

#include "node/chain.h"

typedef struct kv_space_question {
    kv_chain *chain;
    kv_loop *loop;
    kv_peer_message message;
    uint32_t target;  /* that it was put to */
    bool asked;
    bool dropping;    /* ... and nobody wants to know any more */
} kv_space_question;

void kv_space_question_init(kv_space_question *question, kv_chain *chain, kv_loop *loop);
/* No effect while it is asked already. */
void kv_space_question_ask(kv_space_question *question);
/* It is not asked any more, or soon will not be. */
void kv_space_question_drop(kv_space_question *question);

#endif
