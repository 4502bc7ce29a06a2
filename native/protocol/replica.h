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
 *    there is one, acknowledged a forward that named this chain version and this attempt.
 * 3. After a change of the chain everything that runs is forwarded again to the new successor, and
 *    without one counts as acknowledged. Nothing that a target holds is given up by it.
 * 4. A key is dirty from its update's turn to its end, while there is a successor, and once there was one:
 *    it may have applied the update sooner than this target, and shown it to readers.
 * 5. What names another chain version, or comes while this target has no part in the chain, is
 *    refused before it has any effect: at `came` and again at its turn.
 * 6. Of two forwards of one update, the older has no effect after the newer came: a forward names its
 *    attempt, which grows whenever a connection is lost, and older attempts are refused.
 * After a total outage one target starts alone with what it applied. It lacks nothing that was acknowledged; but the tail
 * may have shown readers what no other one had applied yet, so the tail should be the one that starts.
 * Leaves to the driver: leases, channels, checksums, memory, and what a value is.
 *
 * What it expects of the chain: targets leave it from any place, and join it only at its end, syncing. So a target
 * never gets a predecessor that lacks what it holds. A target that goes to another chain, or whose process starts again, has a new replica,
 * and comes back with a later chain version.
 * What it expects of the driver, beyond carrying out effects:
 * a. What a target holds already is never refused, nor may its successor refuse it: an item of a PEER that came before, whose version is that of the object that is there when it
 *    decides, is KV_OK then, also if there was no room to receive it again, and its update is not careful. What is forwarded of it is the object that is there.
 * b. DELETE, PIN and UNPIN of what is not there are KV_NOT_FOUND at the head, said when it decides; to a predecessor they are KV_OK.
 * c. The record of a PEER's update in the channels begins when it runs after kv_replica_decided, and again if it came before. A CLIENT's begins when it comes; if it ends without an effect it is cancelled. A target
 *    that syncs forgets all records with each chain version, and one whose process starts with objects has forgotten them.
 * d. A target that feeds a successor tells it that it lacks nothing (SYNCED) only once every update has ended that had its turn before the last keys were compared (kv_replica_turns, kv_replica_settled). Until
 *    then the successor may hold an old object and not have applied yet what replaces it.
 * e. A target that cannot apply what it has not refused leaves the chain (kv_replica_configure) before kv_replica_applied. */
#ifndef KV_REPLICA_H
#define KV_REPLICA_H

#include "bytes/list.h"
#include "kvcore.h"

#include <stdbool.h>

#define KV_REPLICA_PLACES_MAX (1u << 20)

typedef struct kv_replica kv_replica;
typedef struct kv_update kv_update;

/* A key of an update while it is in the table. The driver gives the memory and fills in the first three. */
typedef struct kv_update_key {
    const uint8_t *key;
    uint32_t key_size;
    uint64_t hash;             /* any good hash of the key */
    struct kv_update_key *next; /* the replica's, as everything below: the front of another key at the same place of the table */
    struct kv_update_key *behind; /* who waits for this one */
    struct kv_update_key *last; /* at the front of a key: the end of those behind */
    kv_update *update;
    bool linked;
} kv_update_key;

typedef enum kv_update_source {
    KV_UPDATE_CLIENT = 1, /* for the head: gets its versions here */
    KV_UPDATE_PEER = 2,   /* forwarded by the predecessor, versions given */
    KV_UPDATE_SYNC = 3,   /* this target's own, to bring its successor in line: nothing is applied */
    KV_UPDATE_MOVE = 4    /* for the head, from another chain whose slots move here: versions given; otherwise as PEER */
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
#define KV_EFFECT_FORWARD 4u /* send to update->successor in the name of update->forward_version and update->forward_attempt, careful if update->careful still says so; then
                              * kv_replica_acknowledged. Given again after a change of the chain or a lost connection: the one before it need not be sent any more. What is
                              * applied already may have to be forwarded, too, also where there was no successor before: its value is at its keys then, which are still its own */
#define KV_EFFECT_END 8u     /* over: reply with update->status and statuses; the update is the driver's again, and nothing more is to be told of it */

/* What the driver fills in before kv_replica_came: everything up to `careful`. */
struct kv_update {
    kv_update_source source;
    uint32_t count;         /* at least 1 */
    kv_update_key *keys;    /* `count`; equal keys of one update follow each other within it */
    uint8_t *statuses;      /* kv_status of each item; those that are not KV_OK were refused already, and are not applied or forwarded as values */
    uint64_t chain_version; /* that the message named; CLIENT: 0 for any; SYNC: 0 */
    uint32_t attempt;       /* that the message named; PEER and MOVE only */
    uint64_t version;       /* of item i: version + i. Given by the replica when the turn is decided where the source is CLIENT; unused by SYNC */
    bool careful;           /* set by the driver before kv_replica_decided: forward first, apply once acknowledged. PEER: only if the predecessor's forward is. The
                             * replica clears it as soon as the update is applied, if there is no successor, and if there is another one than it was forwarded to */
    kv_status status;       /* the replica's, as everything below. ENDED: KV_OK: statuses say it all; else all of it was refused or its outcome is not known */
    kv_update_state state;
    uint32_t effects;       /* wanted, not taken yet */
    uint32_t blockers;      /* keys that others hold */
    uint32_t successor;     /* FORWARD: target */
    uint64_t forward_version;
    uint32_t forward_attempt;
    uint64_t turn;          /* counts turns of this replica */
    bool deciding;
    bool applying;
    bool applied;           /* or nothing is to be applied here */
    bool acknowledged;
    bool forwarded;         /* at least once, to whomever */
    bool lost;              /* being applied at a target that does not serve, from before a change of the chain */
    kv_list link;           /* replica: queued, ready or running */
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

/* `place_count` of the table of keys: a power of two up to KV_REPLICA_PLACES_MAX. -EINVAL, -ENOMEM. */
int kv_replica_open(uint32_t place_count, kv_replica **replica);
/* No update is in it any more. */
void kv_replica_close(kv_replica *replica);

/* The chain has changed, or this target's place in it. A view with an older chain version is passed over (false); one without any is that of a target which is not in
 * the chain. What does not fit the new view and has not had its turn ends with KV_WRONG_TARGET: what a predecessor sent, as it sends again; at a target that is not the head, what
 * clients sent. SYNC ends with it as soon as no successor syncs. Unless this target serves, everything ends: what ran is applied if it was not, and ends with
 * KV_OUTCOME_UNKNOWN then, unless this target serves again by that time: then it goes on. A target that syncs starts anew so with each chain version. */
bool kv_replica_configure(kv_replica *replica, const kv_replica_view *view);
const kv_replica_view *kv_replica_view_of(const kv_replica *replica);

/* KV_OK when a message with this chain version may be taken in now (before its values are; also COMPARE and SYNCED, as from a PEER). KV_WRONG_TARGET. KV_BUSY: what the target
 * held when it left the chain is still being applied, and must not overtake what brings it in line; soon over. */
kv_status kv_replica_admits(const kv_replica *replica, kv_update_source source, uint64_t chain_version);
/* All values of the update are there. */
void kv_replica_came(kv_replica *replica, kv_update *update);
/* After DECIDE: statuses and careful are filled in. `status` other than KV_OK refuses all of it (lease, shutdown). KV_UNAVAILABLE at its end: this chain version has no
 * more versions to give. */
void kv_replica_decided(kv_replica *replica, kv_update *update, kv_status status);
/* After APPLY: all that was not refused is applied. */
void kv_replica_applied(kv_replica *replica, kv_update *update);
/* The successor's word on a forward, by the version and the attempt that the forward named: the status of each item (NULL: all KV_OK). Call it where the status as a whole is KV_OK. With any other
 * nothing is known: send again later if the update still wants it (kv_replica_forwards). What a careful update, or SYNC, was refused gets the successor's status. False: the successor refused what it
 * was bound to apply: it breaks the protocol, and the update goes on waiting, for another one. Late words on older forwards have no effect (true). */
bool kv_replica_acknowledged(kv_replica *replica, kv_update *update, uint64_t forward_version, uint32_t attempt, const uint8_t *statuses);
/* Whether a forward of this chain version and attempt still waits for its acknowledgement. */
bool kv_replica_forwards(const kv_update *update, uint64_t forward_version, uint32_t attempt);
/* A connection to the successor was lost. What was sent by it may still arrive, even after what is sent from now on: all that is not acknowledged is forwarded again, under
 * another attempt. */
void kv_replica_severed(kv_replica *replica);
/* Nobody waits for it any more and it has not had its turn: it ends with `status`. False: too late. */
bool kv_replica_withdraw(kv_replica *replica, kv_update *update, kv_status status);

/* An update with effects to be carried out, and which; NULL: none. The bits are cleared. In the order in which they came up. */
kv_update *kv_replica_next(kv_replica *replica, uint32_t *effects);

/* A read's question, before it looks the key up and again afterwards. What it looked up was committed while it was under way if the target served and the key was clean both times, and kv_replica_given_up
 * was the same. One time is not enough: before, an update may start and be seen; after, one may have ended that the tail showed to others before this target had applied it. */
bool kv_replica_is_dirty(const kv_replica *replica, const uint8_t *key, uint32_t key_size, uint64_t hash);
/* Whether an update that has not ended has this key. */
bool kv_replica_is_held(const kv_replica *replica, const uint8_t *key, uint32_t key_size, uint64_t hash);
/* How many updates ended with KV_OUTCOME_UNKNOWN after their turn. */
uint64_t kv_replica_given_up(const kv_replica *replica);
/* How many updates had their turn so far, and whether those that had it when it was so many have all ended. */
uint64_t kv_replica_turns(const kv_replica *replica);
bool kv_replica_settled(const kv_replica *replica, uint64_t turns);
/* Queued and running. */
uint32_t kv_replica_count(const kv_replica *replica);
/* Nothing that came by an older chain version is queued or runs: at a head, whatever clients sent by older routing info has ended in the whole chain. */
bool kv_replica_is_settled(const kv_replica *replica);
void kv_replica_invariants(const kv_replica *replica);

#endif
