/* What the files of the chain protocol share: the replica's state, and its table of keys.
 *
 *   places ──► front ──next──► front of another key
 *                │ behind
 *                ▼
 *              the same key of a later update ──behind──► ... ◄── last (of the front)
 *
 * A key is in the table while an update that has not ended holds it or waits for it. An update
 * enters the queues of all its keys at once, so that two updates never wait for each other. */
#ifndef KV_REPLICA_STATE_H
#define KV_REPLICA_STATE_H

#include "protocol/replica.h"

struct kv_replica {
    kv_replica_view view;
    uint64_t chain_version; /* the latest that was heard of; the two counts below are of it */
    uint64_t sequence;      /* the last that was given to an object */
    uint32_t attempt;       /* of what is forwarded */
    uint32_t attempt_heard; /* the latest of the predecessor */
    uint32_t place_mask;
    uint32_t queued_count;  /* on `queued` and `ready` */
    uint32_t running_count;
    uint32_t lost_count;
    uint64_t given_up;
    uint64_t turns;
    kv_list queued;
    kv_list ready;   /* queued, and in nobody's way any more: their turn is next */
    kv_list running; /* in the order of their turns */
    kv_list effects; /* updates with effects to be taken */
    kv_update_key *places[];
};

static inline bool kv_replica_view_takes_part(const kv_replica_view *view)
{
    return view->serves || view->syncs;
}

static inline bool kv_replica_view_feeds(const kv_replica_view *view)
{
    return view->has_successor && view->successor_syncs;
}

void kv_replica_view_check(const kv_replica_view *view);

/* Whether an update that was taken in may go on under the present view. */
bool kv_replica_fits(const kv_replica *replica, const kv_update *update);
/* Take back effects that were not taken yet. */
void kv_replica_unwant(kv_update *update, uint32_t effects);
/* Under way: to the successor that there is now; acknowledged where there is none. */
void kv_replica_forward(kv_replica *replica, kv_update *update);
/* Under way, and not being applied yet. */
void kv_replica_apply(kv_replica *replica, kv_update *update);
/* Under way: what is to be done next, after either side has changed. */
void kv_replica_go_on(kv_replica *replica, kv_update *update);
/* Over, from any state. Its keys are others' from now on. */
void kv_replica_end(kv_replica *replica, kv_update *update, kv_status status);
/* Over after its turn, without knowing what became of it. */
void kv_replica_give_up(kv_replica *replica, kv_update *update);
/* The last step of every event: ends bring others' turns, and those may be ends again. */
void kv_replica_turns_take(kv_replica *replica);

/* Put all keys into the table; update->blockers counts those that others hold. */
void kv_replica_keys_link(kv_replica *replica, kv_update *update);
/* Take all keys out of the table. Updates that lose their last blocker by it go from `queued` to
 * `ready`. */
void kv_replica_keys_unlink(kv_replica *replica, kv_update *update);
/* Who holds a key; NULL: nobody. */
const kv_update *kv_replica_holder(const kv_replica *replica, const uint8_t *key, uint32_t key_size,
                                   uint64_t hash);
void kv_replica_keys_invariants(const kv_replica *replica);

#endif
