/* See sequences.h. */

#include "client/sequences.h"

#include <assert.h>

_Static_assert(KV_CLIENT_CHANNELS_MAX <= UINT8_MAX + 1u, "a place fits a byte");

void kv_sequences_open(kv_sequences *sequences)
{
    *sequences = (kv_sequences){.free_count = KV_CLIENT_CHANNELS_MAX};
    pthread_mutex_init(&sequences->mutex, NULL);
    for (uint32_t i = 0; i < KV_CLIENT_CHANNELS_MAX; i++) {
        sequences->number[i] = i;
        sequences->free[i] = (uint8_t)(KV_CLIENT_CHANNELS_MAX - 1 - i);
    }
}

void kv_sequences_close(kv_sequences *sequences)
{
    pthread_mutex_destroy(&sequences->mutex);
}

bool kv_sequences_take(kv_sequences *sequences, uint32_t *holder, uint32_t *channel,
                       uint64_t *sequence)
{
    bool taken;

    pthread_mutex_lock(&sequences->mutex);
    taken = *holder < sequences->free_count;
    if (taken) {
        uint32_t place = sequences->free[--sequences->free_count];

        assert(!sequences->holder[place]);
        sequences->holder[place] = holder;
        ++*holder;
        *channel = sequences->number[place];
        *sequence = ++sequences->last[place];
    }
    pthread_mutex_unlock(&sequences->mutex);
    return taken;
}

/* Locked. */
static void release(kv_sequences *sequences, uint32_t place)
{
    assert(sequences->holder[place] && *sequences->holder[place] > 0);
    assert(sequences->free_count < KV_CLIENT_CHANNELS_MAX);
    --*sequences->holder[place];
    sequences->holder[place] = NULL;
    sequences->free[sequences->free_count++] = (uint8_t)place;
}

void kv_sequences_give(kv_sequences *sequences, uint32_t channel)
{
    uint32_t place = channel % KV_CLIENT_CHANNELS_MAX;

    pthread_mutex_lock(&sequences->mutex);
    assert(sequences->number[place] == channel);
    release(sequences, place);
    pthread_mutex_unlock(&sequences->mutex);
}

void kv_sequences_give_unused(kv_sequences *sequences, uint32_t channel)
{
    uint32_t place = channel % KV_CLIENT_CHANNELS_MAX;

    pthread_mutex_lock(&sequences->mutex);
    assert(sequences->number[place] == channel && sequences->last[place] > 0);
    sequences->last[place]--;
    release(sequences, place);
    pthread_mutex_unlock(&sequences->mutex);
}

void kv_sequences_retire(kv_sequences *sequences, uint32_t channel)
{
    uint32_t place = channel % KV_CLIENT_CHANNELS_MAX;

    pthread_mutex_lock(&sequences->mutex);
    assert(sequences->number[place] == channel);
    sequences->number[place] += KV_CLIENT_CHANNELS_MAX;
    sequences->last[place] = 0;
    release(sequences, place);
    pthread_mutex_unlock(&sequences->mutex);
}
