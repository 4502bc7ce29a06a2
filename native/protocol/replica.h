/* The chain protocol at one target: CRAQ on whole objects, as a pure state machine.
 *
 *             came                        turn                 applied and acknowledged
 *   (new) ───────────► QUEUED ─────────────────────► RUNNING ────────────────────────────► ENDED
 *     its values are    until every key is its own    DECIDE, then APPLY and FORWARD       END: reply
 *     there             and no update before it is    side by side (careful: FORWARD,
 *                       in its way                    then APPLY)
 *
 * Events are calls, effects are bits of an update: whoever drives a replica takes them after each
 * call (kv_replica_next) and carries them out, then tells what came of it by another call. No clock, socket,
 * thread, random number or allocation is inside: updates and their keys are the driver's memory, linked
 * in place. Not thread-safe: the driver holds a lock around calls.
 *
 * What it guarantees, if effects are carried out as they say:
 * 1. Updates of a key run one at a time, in the order in which they came; versions of a key grow.
 * 2. An update ends well only after it was applied here, and its successor of this chain version, if
 *    there is one, acknowledged a forward that named this chain version.
 * 3. After a change of the chain everything that runs is forwarded again to the new successor, and
 *    without one counts as acknowledged. Nothing that a target holds is given up by it.
 * 4. A key is dirty from its update's turn to its end, while there is a successor.
 * 5. What names another chain version, or comes while this target has no part in the chain, is
 *    refused before it has any effect: at `came` and again at its turn.
 * Leaves to the driver: leases, channels, checksums, memory, and what a value is. */
#ifndef KV_REPLICA_H
#define KV_REPLICA_H

#include "bytes/list.h"
#include "kvcore.h"

#include <stdbool.h>

#define KV_REPLICA_BUCKETS_MAX (1u << 20)

typedef struct kv_replica kv_replica;
typedef struct kv_update kv_update;

/* A key of an update while it is in the table. The driver gives the memory and fills in the first three. */
typedef struct kv_update_key {
    const uint8_t *key;
    uint32_t key_size;
    uint64_t hash;             /* any good hash of the key */
    struct kv_update_key *next; /* the replica's, as everything below */
    struct kv_update_key *behind; /* who waits for this one */
    kv_update *update;
    bool linked;
} kv_update_key;

typedef enum kv_update_source {
    KV_UPDATE_CLIENT = 1, /* for the head: gets its versions here */
    KV_UPDATE_PEER = 2,   /* forwarded by the predecessor, versions given */
    KV_UPDATE_SYNC = 3    /* this target's own, to bring its successor in line: nothing is applied */
} kv_update_source;

typedef enum kv_update_state {
    KV_UPDATE_NEW = 0,
    KV_UPDATE_QUEUED = 1,
    KV_UPDATE_RUNNING = 2,
    KV_UPDATE_ENDED = 3
} kv_update_state;

/* Effects. DECIDE comes alone; answer it with kv_replica_decided. */
#define KV_EFFECT_DECIDE 1u  /* its turn: refuse what must be refused (if_absent, lease), say whether it is careful; SYNC: see what the key holds now */
#define KV_EFFECT_APPLY 2u   /* apply the items that are not refused (statuses), then kv_replica_applied */
#define KV_EFFECT_FORWARD 4u /* send to update->successor in the name of update->forward_version; then kv_replica_acknowledged. Given again after a change of the chain:
                              * the one before it need not be sent any more */
#define KV_EFFECT_END 8u     /* over: reply with update->status and statuses; the update is the driver's again */

/* What the driver fills in before kv_replica_came: everything up to `statuses`. */
struct kv_update {
    kv_update_source source;
    uint32_t count;
    kv_update_key *keys;    /* `count`; equal keys of one update follow each other within it */
    uint8_t *statuses;      /* kv_status of each item; those that are not KV_OK were refused already, and are not applied or forwarded as values */
    uint64_t chain_version; /* that the message named; CLIENT: 0 for any; SYNC: 0 */
    uint64_t version;       /* of item i: version + i. Given by the replica at its turn where the source is CLIENT; unused by SYNC */
    bool careful;           /* set by the driver before kv_replica_decided: forward first, apply once acknowledged */
    kv_status status;       /* the replica's, as everything below. ENDED: KV_OK: statuses say it all; else all of it was refused or its outcome is not known */
    kv_update_state state;
    uint32_t effects;       /* wanted, not taken yet */
    uint32_t blockers;      /* keys that others hold */
    uint32_t successor;     /* FORWARD: target */
    uint64_t forward_version;
    bool deciding;
    bool applying;
    bool applied;
    bool acknowledged;
    bool applies;           /* something is to be applied here */
    kv_list link;           /* replica: queued or running */
    kv_list effect_link;
};

/* What routing info says of this target. Nothing of it set: not in the chain. */
typedef struct kv_replica_view {
    uint64_t chain_version;
    bool serves;
    bool syncs;
    bool head;
    bool successor_syncs;
    bool has_successor;
    uint32_t successor;
} kv_replica_view;

/* `bucket_count`: a power of two up to KV_REPLICA_BUCKETS_MAX.. -EINVAL, -ENOMEM. */
int kv_replica_open(uint32_t bucket_count, kv_replica **replica);
/* No update is in it any more. */
void kv_replica_close(kv_replica *replica);

/* The chain has changed, or this target's place in it. A view with an older chain version is passed over (false). Without a part in the chain everything ends: what was queued with
 * KV_WRONG_TARGET, what ran with KV_OUTCOME_UNKNOWN once nothing is being applied. */
bool kv_replica_configure(kv_replica *replica, const kv_replica_view *view);
const kv_replica_view *kv_replica_view_of(const kv_replica *replica);

/* KV_OK when a message with this chain version may be taken in now (before its values are); KV_WRONG_TARGET. */
kv_status kv_replica_admits(const kv_replica *replica, kv_update_source source, uint64_t chain_version);
/* All values of the update are there. */
void kv_replica_came(kv_replica *replica, kv_update *update);
/* After DECIDE: statuses and careful are filled in. `status` other than KV_OK refuses all of it (lease, shutdown). */
void kv_replica_decided(kv_replica *replica, kv_update *update, kv_status status);
/* After APPLY: what could not be applied any more has its status; see `binding` in the driver. */
void kv_replica_applied(kv_replica *replica, kv_update *update);
/* The successor's word on a forward: its status as a whole and of each item (NULL: all KV_OK), for the chain version that the forward named. KV_OK or what it refused; KV_WRONG_TARGET or KV_BUSY as a whole: nothing is known;
 * the driver sends again later if the update still wants it (kv_replica_forwards). */
void kv_replica_acknowledged(kv_replica *replica, kv_update *update, uint64_t forward_version, const uint8_t *statuses);
/* Whether a forward of this chain version still waits for its acknowledgement. */
bool kv_replica_forwards(const kv_update *update, uint64_t forward_version);
/* Nobody waits for it any more and it has not had its turn: it ends with `status`. False: too late. */
bool kv_replica_withdraw(kv_replica *replica, kv_update *update, kv_status status);

/* An update with effects to be carried out, and which; NULL: none. The bits are cleared. */
kv_update *kv_replica_next(kv_replica *replica, uint32_t *effects);

/* A read's question, after it has looked the key up. */
bool kv_replica_is_dirty(const kv_replica *replica, const uint8_t *key, uint32_t key_size, uint64_t hash);
/* How many updates were given up after their turn, for readers: see above. */
uint64_t kv_replica_given_up(const kv_replica *replica);
/* Queued and running. */
uint32_t kv_replica_count(const kv_replica *replica);
void kv_replica_invariants(const kv_replica *replica);

#endif
