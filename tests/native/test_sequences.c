/* Channels and their sequences: one update of a channel at a time, numbers grow by one. */

#include "client/sequences.h"

#include <assert.h>

static void sequences_of_a_channel_grow_by_one(void)
{
    kv_sequences sequences;
    uint32_t channel, again;
    uint64_t sequence;

    kv_sequences_init(&sequences, 3);
    assert(kv_sequences_take(&sequences, &channel, &sequence));
    assert(channel == 3 * KV_CLIENT_SEQUENCES_MAX && sequence == 1);
    kv_sequences_give(&sequences, channel);
    assert(kv_sequences_take(&sequences, &again, &sequence));
    assert(again == channel && sequence == 2);
}

static void an_unused_sequence_is_taken_again(void)
{
    kv_sequences sequences;
    uint32_t channel;
    uint64_t sequence;

    kv_sequences_init(&sequences, 0);
    assert(kv_sequences_take(&sequences, &channel, &sequence));
    kv_sequences_give_unused(&sequences, channel);
    assert(kv_sequences_take(&sequences, &channel, &sequence));
    assert(sequence == 1);
}

static void every_channel_is_taken_once(void)
{
    kv_sequences sequences;
    bool seen[KV_CLIENT_SEQUENCES_MAX] = {false};
    uint32_t channel;
    uint64_t sequence;

    kv_sequences_init(&sequences, 0);
    for (uint32_t i = 0; i < KV_CLIENT_SEQUENCES_MAX; i++) {
        assert(kv_sequences_take(&sequences, &channel, &sequence));
        assert(channel < KV_CLIENT_SEQUENCES_MAX && !seen[channel]);
        seen[channel] = true;
    }
    assert(!kv_sequences_take(&sequences, &channel, &sequence));
    kv_sequences_give(&sequences, 5);
    assert(kv_sequences_take(&sequences, &channel, &sequence) && channel == 5);
}

int main(void)
{
    sequences_of_a_channel_grow_by_one();
    an_unused_sequence_is_taken_again();
    every_channel_is_taken_once();
    return 0;
}
