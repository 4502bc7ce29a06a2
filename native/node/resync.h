/* Resync: how the last serving target of a chain brings its syncing successor in line.
 *
 *   REST ──a successor syncs──► QUIET     updates that were not kept have ended
 *    ▲                           ▼
 *    │                          DIGEST    sums of own objects, by parts of their keys
 *    │                           ▼
 *    │                          ASK       the successor's sums: they tell which parts differ
 *    │                           ▼
 *    │                          REMOVE    the successor's objects of those that are not here
 *    │                           ▼
 *    │                          COMPARE   own objects of those that it lacks, or has otherwise
 *    │                           ▼
 *    └────────────────────────  TELL      the successor lacks nothing any more
 *
 * 1. It goes by one view of the chain: another chain version makes it begin anew.
 * 2. What is sent goes through the queues of its keys as an update of this target's own: it never
 *    overtakes a live update, and none overtakes it. Live updates reach the successor meanwhile,
 *    so whatever changes after it was listed needs no more care.
 * 3. At most KV_NODE_RESYNC_IN_FLIGHT batches are under way, and values leave no faster than
 *    kv_node_set_resync_rate says.
 * 4. What the successor has no room for is sent again a little later: in cache mode the head evicts
 *    meanwhile (see evictor.h). So is what is corrupt here: it may be healed from another target meanwhile. Where
 *    there is no other one it is deleted, with an event: nobody has it any more.
 * One loop's: kv_chain_loop. */
#ifndef KV_RESYNC_H
#define KV_RESYNC_H

#include "node/chain.h"

int kv_resync_open(kv_chain *chain, kv_resync **resync);
void kv_resync_close(kv_resync *resync);
/* On its loop: the chain is another one, or what was waited for may have come. */
void kv_resync_look(kv_resync *resync);
/* From any thread. */
void kv_resync_state(kv_resync *resync, kv_chain_state *state);

/* sync_batch.c: keys that the successor has otherwise, or not. */
typedef enum kv_sync_aim {
    KV_SYNC_SET = 1,    /* it is to have what is here */
    KV_SYNC_REMOVE = 2, /* it is not to have what is not here */
    KV_SYNC_LOSE = 3    /* neither is to have what cannot be read */
} kv_sync_aim;
typedef struct kv_sync_result {
    uint64_t count; /* keys that got there */
    uint64_t size;  /* bytes of their values */
    bool failed;    /* the others did not, for another reason than space and damage */
} kv_sync_result;
/* Entries as of kv_engine_list_stored: at most KV_NODE_RESYNC_BATCH_COUNT. NULL: no memory. */
kv_sync_batch *kv_sync_open(kv_resync *resync, kv_chain *chain, kv_loop *loop, kv_sync_aim aim,
                            const uint8_t *const *entries, uint32_t count);
/* One that is not under way. */
void kv_sync_close(kv_sync_batch *batch);
/* The batch goes its way; kv_resync_batch_ended follows. False: no memory. */
bool kv_sync_begin(kv_sync_batch *batch);
/* Keys that are to be tried once more; how often they only could not be read; bytes of values. */
uint32_t kv_sync_count(const kv_sync_batch *batch);
uint32_t kv_sync_tries(const kv_sync_batch *batch);
uint64_t kv_sync_size(const kv_sync_batch *batch);
/* In resync.c: it is over, and not under way any more. */
void kv_resync_batch_ended(kv_resync *resync, kv_sync_batch *batch, const kv_sync_result *result);
/* Its turn has come: see what the keys hold now, then kv_chain_decide. */
void kv_sync_look(kv_sync_batch *batch);
/* The update is over. */
void kv_sync_ended(kv_sync_batch *batch, kv_status status);
const kv_request *kv_sync_request(const kv_sync_batch *batch);
kv_operation *kv_sync_operation(const kv_sync_batch *batch);

#endif
