/* See sequences.h. */

#include "client/sequences.h"

#include <assert.h>

_Static_assert(KV_CLIENT_SEQUENCES_MAX <= UINT8_MAX + 1u, "a number within the lane fits a byte");

void kv_sequences_init(kv_sequences *sequences, uint32_t lane)
{
    *sequences = (kv_sequences){.first_channel = lane * KV_CLIENT_SEQUENCES_MAX};
    for (uint32_t i = 0; i < KV_CLIENT_SEQUENCES_MAX; i++)
        sequences->free[i] = (uint8_t)(KV_CLIENT_SEQUENCES_MAX - 1 - i);
    sequences->free_count = KV_CLIENT_SEQUENCES_MAX;
}

bool kv_sequences_take(kv_sequences *sequences, uint32_t *channel, uint64_t *sequence)
{
    uint32_t number;

    if (sequences->free_count == 0)
        return false;
    number = sequences->free[--sequences->free_count];
    *channel = sequences->first_channel + number;
    *sequence = ++sequences->last[number];
    return true;
}

void kv_sequences_give(kv_sequences *sequences, uint32_t channel)
{
    assert(channel - sequences->first_channel < KV_CLIENT_SEQUENCES_MAX);
    assert(sequences->free_count < KV_CLIENT_SEQUENCES_MAX);
    sequences->free[sequences->free_count++] = (uint8_t)(channel - sequences->first_channel);
}

void kv_sequences_give_unused(kv_sequences *sequences, uint32_t channel)
{
    kv_sequences_give(sequences, channel);
    assert(sequences->last[channel - sequences->first_channel] > 0);
    sequences->last[channel - sequences->first_channel]--;
}
