/* How slots leave a chain: its tail sends what it holds of them to the head of another chain.
 *
 *   REST ──a move is given──► WALK ────────────────────► WATCH
 *                             own objects, page by       what changes is sent again, as it
 *                             page: those in the         changes: READY, and DONE once no
 *                             slots are sent             update of the slots comes any more
 *
 * 1. One message is under way at a time, so that of two copies of a key the later one arrives last;
 *    after a lost connection it comes under a higher attempt, and the older one is refused.
 * 2. A key that an update changes here is noted, under the chain's mutex and before the update
 *    ends, and sent (or deleted over there) after that. So once every update has ended and no note
 *    is left, the other chain has what this one has. Too many notes, and the move has FAILED.
 * 3. It is the message's version that keeps others out: the head takes it only by the chain version
 *    that the move names.
 * A move that was ended and is given again under the same id has FAILED, unless it deletes.
 * A move that deletes is a walk only; it goes to the head of this target's own chain.
 * One loop's: kv_chain_loop. Leaves to others: when slots lead where (mgmtd). */
#ifndef KV_MOVER_H
#define KV_MOVER_H

#include "node/chain.h"

int kv_mover_open(kv_chain *chain, kv_mover **mover);
void kv_mover_close(kv_mover *mover);
/* Go by this from now on; id 0: rest. `slots`: `move->slot_count` of them. */
void kv_mover_give(kv_mover *mover, const kv_move *move, const uint32_t *slots, uint32_t endpoint);
/* The chain's mutex is held for these: rest; keys that the update changed here; how far it is. */
void kv_mover_forget(kv_mover *mover);
void kv_mover_note(kv_mover *mover, const kv_update *update);
void kv_mover_state(const kv_mover *mover, kv_chain_state *state);
/* On its loop: there may be something to do. */
void kv_mover_look(kv_mover *mover);
/* Its connection was lost with a message under way. */
void kv_mover_severed(kv_mover *mover);

#endif
