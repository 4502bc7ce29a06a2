/* Cache mode of a chain of several targets: the head evicts for all of them, so that they stay
 * alike.
 *
 *   space is short here, or further down ──► victims chosen ──► an update of the chain, nobody's:
 *   DELETE of those keys that no other update has just now ──turn──► deletes what is still as it
 *   was chosen, at every target ──► over; what was not deleted is spared
 *
 * 1. An eviction waits for nothing that waits for space: neither for keys (it leaves out those that
 *    other updates have) nor behind values (its connections and their memory are its own).
 * 2. It is begun ahead of need, when the engine, or an answer of the successor, says that too
 *    little is free; no more is under way than was wanted.
 * 3. A successor that waits for space may have nothing to answer, and one far away may feed a
 *    target that lacks space while no update runs. So each target asks its successor (see
 *    space_question.h) when it has not heard of it for a moment: often while somebody lacks space
 *    or updates are under way, and seldom otherwise.
 * 4. Who waits for space waits as long as any becomes free now and then. A copy for a syncing
 *    target waits shortly only: an eviction may stand behind it, in the queue of a key.
 * One loop's: kv_chain_loop. A target that is not the head has an evictor for rules 3 and 4 alone.
 * A chain of one target leaves it all to its engine. */
#ifndef KV_EVICTOR_H
#define KV_EVICTOR_H

#include "node/chain.h"

int kv_evictor_open(kv_chain *chain, kv_evictor **evictor);
void kv_evictor_close(kv_evictor *evictor);
/* From any thread: have a look soon. */
void kv_evictor_post(kv_evictor *evictor);
/* On its loop. */
void kv_evictor_look(kv_evictor *evictor);
/* A batch is over: what it was begun with. */
void kv_evictor_batch_ended(kv_evictor *evictor, uint64_t size, uint64_t count);

/* evict_batch.c: chosen keys, as one update. NULL: no memory. */
kv_evict_batch *kv_evict_open(kv_evictor *evictor, kv_chain *chain, kv_loop *loop,
                              const kv_victims *victims);
/* It goes its way, and kv_evictor_batch_ended follows. False: all of its keys are in use; it is
 * gone. */
bool kv_evict_begin(kv_evict_batch *batch);
/* Its turn has come: see what is still to go. kv_chain_decide follows. */
void kv_evict_look(kv_evict_batch *batch);
/* kv_chain_applied follows. */
void kv_evict_apply(kv_evict_batch *batch);
void kv_evict_ended(kv_evict_batch *batch, kv_status status);

#endif
