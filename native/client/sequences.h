/* The client's end of update channels (protocol/channel.h): numbers of channels, and sequences in
 * them, to take and give back. One for a whole client, since an update may be repeated to any node
 * and each knows its channel by the client's id and the number alone.
 *
 * Nodes keep KV_NODE_CHANNELS_PER_CLIENT_MAX (256) channels of a client: fewer are in use at any
 * time. So that a node that does not answer cannot keep all of them, an endpoint takes a channel
 * only while it holds fewer than are free (Choudhury and Hahne, Dynamic queue length thresholds for
 * shared-memory packet switches, 1998): one endpoint comes to a half, two to a third each.
 *
 * A channel whose last update has an unknown outcome is retired: its place gets a number that was
 * never used, so that nothing else ever follows that update in its channel. Thread-safe. */
#ifndef KV_SEQUENCES_H
#define KV_SEQUENCES_H

#include "client/client_limits.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct kv_sequences {
    pthread_mutex_t mutex;
    uint64_t last[KV_CLIENT_CHANNELS_MAX];   /* sequence that was last taken; 0: none */
    uint32_t number[KV_CLIENT_CHANNELS_MAX]; /* of the channel; its remainder is its place */
    uint32_t *holder[KV_CLIENT_CHANNELS_MAX];
    uint8_t free[KV_CLIENT_CHANNELS_MAX]; /* a stack: few channels are used, and those are warm */
    uint32_t free_count;
} kv_sequences;

void kv_sequences_open(kv_sequences *sequences);
void kv_sequences_close(kv_sequences *sequences);
/* `holder` counts what its endpoint holds; it stays in place, and is the sequences' to change.
 * False: no channel is to be had now. */
bool kv_sequences_take(kv_sequences *sequences, uint32_t *holder, uint32_t *channel,
                       uint64_t *sequence);
/* The outcome of the update is known. */
void kv_sequences_give(kv_sequences *sequences, uint32_t channel);
/* The same for an update of which no byte was sent: its sequence is still to be had. */
void kv_sequences_give_unused(kv_sequences *sequences, uint32_t channel);
/* The outcome is unknown, and nobody asks for it any more. */
void kv_sequences_retire(kv_sequences *sequences, uint32_t channel);

#endif
