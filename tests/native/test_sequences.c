/* Channels and their sequences: one update of a channel at a time, numbers grow by one, and what is
 * unknown is followed by nothing. */

#include "client/sequences.h"

#include <assert.h>

static void sequences_of_a_channel_grow_by_one(void)
{
    kv_sequences sequences;
    uint32_t holder = 0, channel, again;
    uint64_t sequence;

    kv_sequences_open(&sequences);
    assert(kv_sequences_take(&sequences, &holder, &channel, &sequence));
    assert(holder == 1 && sequence == 1);
    kv_sequences_give(&sequences, channel);
    assert(holder == 0);
    assert(kv_sequences_take(&sequences, &holder, &again, &sequence));
    assert(again == channel && sequence == 2);
    kv_sequences_close(&sequences);
}

static void an_unused_sequence_is_taken_again(void)
{
    kv_sequences sequences;
    uint32_t holder = 0, channel;
    uint64_t sequence;

    kv_sequences_open(&sequences);
    assert(kv_sequences_take(&sequences, &holder, &channel, &sequence));
    kv_sequences_give_unused(&sequences, channel);
    assert(kv_sequences_take(&sequences, &holder, &channel, &sequence));
    assert(sequence == 1);
    kv_sequences_close(&sequences);
}

static void a_retired_channel_is_not_used_again(void)
{
    kv_sequences sequences;
    uint32_t holder = 0, channel, next;
    uint64_t sequence;

    kv_sequences_open(&sequences);
    for (uint32_t i = 0; i < 1000; i++) {
        assert(kv_sequences_take(&sequences, &holder, &channel, &sequence));
        kv_sequences_retire(&sequences, channel);
        assert(holder == 0);
        assert(kv_sequences_take(&sequences, &holder, &next, &sequence));
        assert(next > channel && sequence == 1);
        kv_sequences_give_unused(&sequences, next);
    }
    kv_sequences_close(&sequences);
}

static void every_channel_is_taken_once(void)
{
    kv_sequences sequences;
    bool seen[KV_CLIENT_CHANNELS_MAX] = {false};
    uint32_t holders[KV_CLIENT_CHANNELS_MAX] = {0};
    uint32_t channel, taken = 0;
    uint64_t sequence;

    kv_sequences_open(&sequences);
    for (uint32_t i = 0; i < KV_CLIENT_CHANNELS_MAX; i++)
        if (kv_sequences_take(&sequences, &holders[i], &channel, &sequence)) {
            assert(channel < KV_CLIENT_CHANNELS_MAX && !seen[channel]);
            seen[channel] = true;
            taken++;
        }
    assert(taken == KV_CLIENT_CHANNELS_MAX && sequences.free_count == 0);
    kv_sequences_close(&sequences);
}

/* How many channels an endpoint gets that takes all it can. */
static uint32_t take_all(kv_sequences *sequences, uint32_t *holder)
{
    uint32_t channel;
    uint64_t sequence;

    while (kv_sequences_take(sequences, holder, &channel, &sequence)) {
    }
    return *holder;
}

static void a_greedy_endpoint_leaves_channels_to_others(void)
{
    kv_sequences sequences;
    uint32_t holders[3] = {0};

    kv_sequences_open(&sequences);
    assert(take_all(&sequences, &holders[0]) == KV_CLIENT_CHANNELS_MAX / 2);
    assert(take_all(&sequences, &holders[1]) == KV_CLIENT_CHANNELS_MAX / 4);
    assert(take_all(&sequences, &holders[2]) == KV_CLIENT_CHANNELS_MAX / 8);
    kv_sequences_close(&sequences);
}

int main(void)
{
    sequences_of_a_channel_grow_by_one();
    an_unused_sequence_is_taken_again();
    a_retired_channel_is_not_used_again();
    every_channel_is_taken_once();
    a_greedy_endpoint_leaves_channels_to_others();
    return 0;
}
