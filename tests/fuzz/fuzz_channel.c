/* Fuzzes the table of update channels with a script of commands, at limits so small that records
 * are dropped all the time. Clients keep to the rules: sequences grow, and a first sending comes
 * first. A repeated update never begins that has taken effect, what is known is what was recorded,
 * and the invariants hold after each command.
 *
 *   0         1                   a command each
 *   ┌─────────┬─────────┬─────────┬─────────┐
 *   │ limits  │ verb u8 │ client, │ ...     │
 *   │ u8      │         │ channel │         │
 *   └─────────┴─────────┴─────────┴─────────┘
 *   limits: clients 1 ... 4, channels of each 1 ... 4 */

#include "protocol/channel.h"

#include <assert.h>
#include <string.h>

#define CLIENT_COUNT 4u
#define CHANNEL_COUNT 4u
#define COUNT_MAX 24u
#define COMMAND_SIZE 2u
#define COMMAND_COUNT_MAX 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef enum verb {
    VERB_NEXT, /* the first sending of the next sequence */
    VERB_REPEAT,
    VERB_FORWARD,
    VERB_END,
    VERB_CANCEL,
    VERB_FORGET,
    VERB_COUNT
} verb;

/* What is believed of one channel. */
typedef struct belief {
    kv_channel *running;
    uint64_t sequence; /* the client's last */
    uint64_t runs;     /* that runs, or was recorded last */
    bool recorded;
    bool begun;        /* the last took effect, or may yet */
    uint8_t statuses[COUNT_MAX];
} belief;

static belief beliefs[CLIENT_COUNT][CHANNEL_COUNT];

static uint32_t count_of(uint64_t sequence)
{
    return 1 + (uint32_t)(sequence * 7) % COUNT_MAX;
}

static void begin(kv_channels *all, verb how, uint32_t client, uint32_t channel, uint64_t now_ms)
{
    belief *believed = &beliefs[client][channel];
    kv_channel_update update = {.client = {(uint8_t)(client + 1)},
                                .channel = channel,
                                .count = count_of(believed->sequence),
                                .sequence = believed->sequence,
                                .repeated = how == VERB_REPEAT,
                                .forwarded = how == VERB_FORWARD};
    const uint8_t *statuses = NULL;
    kv_channel *begun = NULL;
    kv_channel_verdict verdict = kv_channel_begin(all, &update, now_ms, &begun, &statuses);

    if (verdict == KV_CHANNEL_BEGUN) {
        assert(begun != NULL && !believed->running);
        assert(!update.repeated || !believed->begun);
        believed->running = begun;
        believed->runs = update.sequence;
        believed->recorded = false;
    }
    if (verdict == KV_CHANNEL_KNOWN) {
        assert(!update.forwarded && believed->recorded && believed->runs == update.sequence);
        assert(memcmp(statuses, believed->statuses, update.count) == 0);
    }
    assert(verdict != KV_CHANNEL_RUNNING || believed->running);
    /* What is forwarded takes effect, with a record or without. */
    believed->begun |= update.forwarded || verdict == KV_CHANNEL_BEGUN;
}

static void stop(kv_channels *all, verb how, belief *believed, uint64_t now_ms)
{
    kv_channel *running = believed->running;
    uint32_t count = count_of(believed->runs);

    if (!running)
        return;
    believed->running = NULL;
    believed->recorded = how == VERB_END;
    for (uint32_t i = 0; i < count; i++)
        believed->statuses[i] = (uint8_t)(believed->runs + i);
    if (how == VERB_END) {
        kv_channel_end(all, running, believed->statuses, now_ms);
        return;
    }
    believed->begun &= believed->runs != believed->sequence;
    kv_channel_cancel(all, running, now_ms);
}

static void obey(kv_channels *all, verb next, uint32_t client, uint32_t channel, uint64_t now_ms)
{
    belief *believed = &beliefs[client][channel];

    if (next == VERB_FORGET) {
        kv_channels_forget(all);
    } else if (next == VERB_END || next == VERB_CANCEL) {
        stop(all, next, believed, now_ms);
    } else {
        /* The next one comes when the client has heard of the last. */
        if (believed->sequence == 0 || (next == VERB_NEXT && !believed->running)) {
            believed->sequence++;
            believed->begun = false;
        } else if (next == VERB_NEXT) {
            return;
        }
        begin(all, next, client, channel, now_ms);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t limits = size > 0 ? data[0] : 0;
    kv_channels_options options = {.clients_max = 1 + limits % 4,
                                   .channels_per_client_max = 1 + limits / 4 % 4,
                                   .memory_max = KV_CHANNELS_MEMORY_MIN,
                                   .seed = limits};
    kv_channels *all;

    memset(beliefs, 0, sizeof(beliefs));
    assert(kv_channels_open(&options, &all) == 0);
    for (size_t at = 1; at + COMMAND_SIZE <= size && at < COMMAND_COUNT_MAX * COMMAND_SIZE;
         at += COMMAND_SIZE) {
        verb next = (verb)(data[at] % VERB_COUNT);
        uint32_t client = data[at + 1] % CLIENT_COUNT;
        uint32_t channel = data[at + 1] / CLIENT_COUNT % CHANNEL_COUNT;

        obey(all, next, client, channel, at);
        kv_channels_invariants(all);
        assert(kv_channels_memory(all) <= options.memory_max);
    }
    kv_channels_close(all);
    return 0;
}
