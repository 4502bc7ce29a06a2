/* A table of update channels for its tests, with what the last call to it came to. */
#ifndef CHANNEL_TABLE_H
#define CHANNEL_TABLE_H

#include "protocol/channel.h"

#include <assert.h>
#include <string.h>

static kv_channels *table;
static kv_channel *running;
static const uint8_t *known;
static uint64_t clock_ms;
static bool forwarded; /* what begins next comes from a predecessor */
static uint8_t answers[KV_MESSAGE_COUNT_MAX];

static inline void table_open(uint32_t clients_max, uint32_t channels_max, uint64_t memory_max)
{
    kv_channels_options options = {clients_max, channels_max, memory_max, 1};

    clock_ms = 0;
    assert(kv_channels_open(&options, &table) == 0);
}

static inline kv_channel_verdict begin(uint8_t client, uint32_t channel, uint64_t sequence,
                                       uint32_t count, bool repeated)
{
    kv_channel_update update = {.channel = channel, .count = count, .sequence = sequence,
                                .repeated = repeated, .forwarded = forwarded};
    kv_channel_verdict verdict;

    memset(update.client, client, sizeof(update.client));
    running = NULL;
    known = NULL;
    verdict = kv_channel_begin(table, &update, clock_ms, &running, &known);
    assert((verdict == KV_CHANNEL_BEGUN) == (running != NULL));
    assert((verdict == KV_CHANNEL_KNOWN) == (known != NULL));
    kv_channels_invariants(table);
    return verdict;
}

static inline void end(kv_channel *channel, uint8_t status, uint32_t count)
{
    memset(answers, status, count);
    kv_channel_end(table, channel, answers, clock_ms);
    kv_channels_invariants(table);
}

/* An update that is applied at once. */
static inline void apply(uint8_t client, uint32_t channel, uint64_t sequence)
{
    assert(begin(client, channel, sequence, 1, false) == KV_CHANNEL_BEGUN);
    end(running, KV_OK, 1);
}

#endif
