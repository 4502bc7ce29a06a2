/* The client's end of update channels (protocol/channel.h): numbers of channels, and sequences in
 * them, to take and give back. Pure and of one lane. */
#ifndef KV_SEQUENCES_H
#define KV_SEQUENCES_H

#include "client/client_limits.h"

#include <stdbool.h>

typedef struct kv_sequences {
    uint64_t last[KV_CLIENT_SEQUENCES_MAX]; /* sequence that was last taken; 0: none */
    uint8_t free[KV_CLIENT_SEQUENCES_MAX];  /* a stack: few channels are used, and those are warm */
    uint32_t free_count;
    uint32_t first_channel; /* of this lane: lanes share the client's id */
} kv_sequences;

void kv_sequences_init(kv_sequences *sequences, uint32_t lane);
/* False: every channel has an update in flight. */
bool kv_sequences_take(kv_sequences *sequences, uint32_t *channel, uint64_t *sequence);
/* The outcome of the update is known, or nobody asks for it any more. */
void kv_sequences_give(kv_sequences *sequences, uint32_t channel);
/* The same for an update of which no byte was sent: its sequence is still to be had. */
void kv_sequences_give_unused(kv_sequences *sequences, uint32_t channel);

#endif
