/* Update channels: a retried update takes effect once.
 *
 * A client numbers its updates per channel and has at most one update of a channel in flight; it sends it again, unchanged
 * and marked as repeated, until it hears what became of it. The node keeps the last sequence of each channel with its result.
 *
 *        NEW ──kv_channel_begin──► RUNNING ──kv_channel_end──► DONE ──next sequence──► RUNNING ...
 *         ▲                          │
 *         └────kv_channel_cancel─────┘
 *
 * Invariants: a sequence of a channel begins at most once; what is DONE answers from its record; a repeated update of
 * which nothing is known is never applied, nor is its first sending if that arrives later by another connection. A repeated update is
 * applied if its channel is known and never began it, or if no record was dropped so far. Pure: time comes in; bounded: clients, channels and bytes have limits, and the
 * client that was silent for longest goes first, but never one with an update that runs. A client beyond its own limit loses its own
 * channel that was idle for longest. Not thread-safe. */
#ifndef KV_CHANNEL_H
#define KV_CHANNEL_H

#include "protocol/hello.h"

typedef struct kv_channels kv_channels;
typedef struct kv_channel kv_channel; /* one update that runs */

typedef enum kv_channel_verdict {
    KV_CHANNEL_BEGUN = 0,   /* apply it, then kv_channel_end */
    KV_CHANNEL_KNOWN = 1,   /* answer with the statuses that are recorded */
    KV_CHANNEL_RUNNING = 2, /* it, or the one before it, was sent before and is being applied: answer KV_BUSY */
    KV_CHANNEL_UNKNOWN = 3, /* repeated, and nothing is known: answer KV_OUTCOME_UNKNOWN */
    KV_CHANNEL_STALE = 4,   /* an older sequence than the last one, or the last one with another count: breaks the protocol */
    KV_CHANNEL_FULL = 5     /* every record is of an update that runs: answer KV_BUSY */
} kv_channel_verdict;

typedef struct kv_channels_options {
    uint32_t clients_max;
    uint32_t channels_per_client_max;
    uint64_t memory_max;    /* bytes of all records, at least KV_CHANNELS_MEMORY_MIN; the tables are small beside it */
    uint64_t seed;          /* random, so that no client can aim at one place of a table */
} kv_channels_options;

typedef struct kv_channel_update {
    uint8_t client[KV_CLIENT_ID_SIZE];
    uint32_t channel;
    uint32_t count;
    uint64_t sequence;
    bool repeated;
    bool forwarded;         /* by the predecessor in a chain, whose word is newer than the record of the same sequence: begins again unless that runs. With any other verdict it goes on without a record, and what is repeated of its channel is UNKNOWN from then on */
} kv_channel_update;

/* One update of the largest count can be recorded. */
#define KV_CHANNELS_MEMORY_MIN 8192u

/* -EINVAL: a limit is 0, or memory_max is too small. -ENOMEM. */
int kv_channels_open(const kv_channels_options *options, kv_channels **channels);
/* Also with updates that run: nobody ends them any more. */
void kv_channels_close(kv_channels *channels);
/* KNOWN: *statuses points to `count` statuses (u8), valid until the next call. BEGUN: *channel is what kv_channel_end wants. */
kv_channel_verdict kv_channel_begin(kv_channels *channels, const kv_channel_update *update, uint64_t now_ms,
                                    kv_channel **channel, const uint8_t **statuses);
void kv_channel_end(kv_channels *channels, kv_channel *channel, const uint8_t *statuses, uint64_t now_ms);
/* It had no effect, and will have none: as if it had not begun. */
void kv_channel_cancel(kv_channels *channels, kv_channel *channel, uint64_t now_ms);
/* Updates may have taken effect of which these records know nothing, as while a target had no part in its chain: drops what is recorded, and what runs once it
 * ends. Repeated updates of which nothing is known are UNKNOWN from then on. */
void kv_channels_forget(kv_channels *channels);
uint64_t kv_channels_memory(const kv_channels *channels);
void kv_channels_invariants(const kv_channels *channels);

#endif
