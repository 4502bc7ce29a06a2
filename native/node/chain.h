/* A target's part in its chain: the replica's state machine, driven.
 *
 *   request ──► kv_chain_update ──came──► replica ──effects──► loop->updates ──► carried out:
 *                                                    DECIDE, APPLY, FORWARD, END
 *
 * 1. The replica and what is said of the chain are behind the chain's mutex; events come from any
 *    loop. What they bring about goes to the loop that has the update, and is carried out at the
 *    end of that loop's turn, so never inside the call that brought it about.
 * 2. Everything else of an update belongs to its loop. It is freed after its END, once its values
 *    are not being sent any more and its operation has answered.
 * 3. An update that must be applied and cannot be takes its target offline: it leaves its chain
 *    then, and acknowledges nothing any more.
 * Leaves to others: connections to other nodes (peer.h), values on their way (serving.c), what a
 * syncing successor lacks (resync.h), and slots that move to other chains (mover.h). */
#ifndef KV_CHAIN_H
#define KV_CHAIN_H

#include "node/node_state.h"
#include "node/peer.h"
#include "protocol/replica.h"

typedef struct kv_resync kv_resync;
typedef struct kv_mover kv_mover;
typedef struct kv_sync_batch kv_sync_batch;
typedef struct kv_evictor kv_evictor;
typedef struct kv_evict_batch kv_evict_batch;

#define KV_CHAIN_NO_ENDPOINT UINT32_MAX

typedef struct kv_chain_news {
    kv_mail mail;
    kv_chain *chain;
    atomic_bool posted;
} kv_chain_news;

struct kv_chain {
    kv_node *node;
    kv_target *target;
    uint64_t seed;              /* of the hash of keys */
    pthread_mutex_t mutex;      /* everything down to `error` */
    kv_replica *replica;
    kv_chain_place place;       /* as it was said last; flags 0: in no chain */
    uint32_t endpoint;          /* of the successor's node, or KV_CHAIN_NO_ENDPOINT */
    uint64_t uptodate_version;  /* chain version for which the predecessor said so */
    uint64_t updates_total;
    uint64_t given_up;          /* as the replica counted them when `epoch` was set last */
    uint64_t epoch_last;
    uint32_t unretained_count;  /* updates that cannot be forwarded: they came without a successor */
    uint64_t retained;          /* bytes of values that wait for the successor */
    kv_list claims;             /* updates that wait for some of them, in order */
    uint64_t space_margin;      /* with less free space updates are careful */
    uint64_t retained_max;      /* the most of that, unless one update alone is larger */
    uint64_t successor_free;    /* space, as the successor said last */
    kv_engine_shortage successor_lacks; /* the same of what should be evicted */
    uint64_t answer_count;      /* of the successor's */
    bool ticks;                 /* cache mode: its evictor looks again soon by itself */
    uint64_t space_free;        /* its own, as of space_ns */
    uint64_t space_ns;
    bool objects_short;         /* nearly as many as there may be, as of space_ns */
    bool lost_told;             /* that the successor cannot be reached */
    bool stopped;
    bool offline;
    int error;                  /* why it is offline: errno */
    /* For readers, who do not wait for the mutex. `epoch` is 0 while nobody is served, and another
     * one each time, and whenever an update was given up. `update_count` is stored after it. */
    _Atomic uint64_t epoch;
    _Atomic uint64_t version;
    atomic_uint update_count;
    kv_peer **peers;            /* of each loop, which alone touches its own; NULL: none yet; then
                                 * the same for evictions */
    kv_chain_news *news;        /* to each loop: look where the successor is now */
    kv_resync *resync;
    kv_mover *mover;
    kv_evictor *evictor;        /* NULL: not in cache mode */
};

typedef enum kv_claim {
    KV_CLAIM_NONE = 0,
    KV_CLAIM_WAITS = 1,   /* on chain->claims */
    KV_CLAIM_GRANTED = 2, /* its mail is on its way */
    KV_CLAIM_HELD = 3
} kv_claim;

struct kv_chain_update {
    kv_update update;
    kv_chain *chain;
    kv_loop *loop;              /* that carries it out */
    kv_node_request *request;   /* that it came by; NULL: a sync update, or an eviction */
    kv_sync_batch *batch;       /* of which it is the update; NULL: it is of none */
    kv_evict_batch *eviction;   /* the same */
    kv_list link;               /* loop->updates */
    kv_mail mail;
    kv_list claim_link;         /* chain->claims */
    kv_mail claim_mail;
    kv_peer_message message;    /* its forward */
    size_t size;                /* of this block */
    uint32_t effects;           /* locked: to be carried out */
    bool queued;                /* locked: on loop->updates, or its mail is on its way */
    kv_claim claim;             /* locked */
    uint64_t claimed;
    uint32_t operation;         /* SET, DELETE, PIN, UNPIN */
    uint32_t timeout_ms;
    uint64_t sent_version;      /* of the forward that is under way: chain version, attempt, */
    uint32_t sent_attempt;      /* for which target, and whether it is careful */
    uint32_t sent_target;
    bool sent_careful;
    uint64_t ttl_ms;
    uint8_t client[KV_CLIENT_ID_SIZE]; /* zeros: nobody's */
    uint32_t channel;
    uint64_t sequence;
    kv_status withdrawn;        /* why it was given up before it came */
    bool if_absent;
    bool refusable;             /* PEER: the predecessor takes refusals for want of space */
    bool exact;                 /* PEER, MOVE: a copy of what another target has */
    bool moves;                 /* PEER, MOVE: from another chain */
    bool evicts;                /* an eviction, here or by the head */
    bool waits;                 /* for its claim */
    bool retained;              /* SET: its values; others have none, and can be forwarded anyway */
    bool settled;               /* SET: its operation was told what to set */
    bool entered;               /* it is the replica's */
    bool ending;
    kv_status end_status;
    kv_request apply;           /* what is not SET: its items that are not refused */
    kv_item *apply_items;
    uint32_t *apply_indices;
    uint8_t *refusals;          /* PEER, SET: what speaks against each item here (kv_status) */
    bool *here;                 /* SET, with `repeated`: the item's answer is in `refusals`; not
                                 * SET: it is applied */
    kv_timer pause;             /* before it is applied once more */
    uint32_t tries;
    bool repeated;              /* PEER: it came before, and is answered as it was then */
    bool recorded;              /* PEER: in its client's channel */
    uint64_t *versions;         /* of each item; CLIENT: once it is decided */
};

/* A block for an update of so many items. */
size_t kv_chain_update_size(uint32_t count);
/* NULL: no memory. Its keys' addresses are filled in from `items`. */
kv_chain_update *kv_chain_update_create(kv_chain *chain, kv_loop *loop, uint32_t operation,
                                        const kv_item *items, uint32_t count);
void kv_chain_update_free(kv_chain_update *own);

/* chain.c: what is behind the mutex. `here`: the loop that calls. */
int kv_chain_open(kv_node *node, kv_target *target, kv_chain **chain);
void kv_chain_close(kv_chain *chain);
/* When a node is closed: everything ends, and nothing begins any more. */
void kv_chain_stop_all(kv_node *node);
void kv_chain_close_all(kv_node *node);
void kv_chain_configure(kv_chain *chain, const kv_chain_place *place, uint32_t endpoint);
bool kv_chain_has_lease(const kv_node *node);
kv_loop *kv_chain_loop(kv_chain *chain); /* that feeds the successor */
/* Whether an update may be taken in. */
kv_status kv_chain_admit(kv_chain *chain, kv_update_source source, uint64_t chain_version);
/* It is taken in: whether its values are to be retained. kv_chain_leave follows. */
void kv_chain_join(kv_chain_update *own);
void kv_chain_enter(kv_chain_update *own);
/* As kv_chain_enter, but it must not wait for its turn: keys of updates under way leave it, and stand
 * behind its others. Returns how many are left; 0: it has not entered. */
uint32_t kv_chain_enter_free(kv_chain_update *own);
void kv_chain_decide(kv_chain_update *own, kv_status status);
void kv_chain_applied(kv_chain_update *own);
/* What the target behind says of its space, by whatever answer. */
void kv_chain_hear(kv_chain *chain, uint32_t target, const kv_wire_forwarded *answer);
/* False: the successor broke the protocol. NULL: it need not be asked. */
bool kv_chain_acknowledge(kv_chain_update *own, const kv_wire_forwarded *answer);
/* A connection to the successor that forwards may have gone by is lost. */
void kv_chain_severed(kv_chain *chain, kv_loop *here);
/* Whether its forward is still wanted. */
bool kv_chain_forwards(kv_chain_update *own);
bool kv_chain_take_back(kv_chain_update *own, kv_status status);
/* It has ended, or never entered. */
void kv_chain_leave(kv_chain_update *own);
/* The target cannot do what it must. */
void kv_chain_fail(kv_chain *chain, int error, const char *reason);
uint64_t kv_chain_hash(const kv_chain *chain, const void *key, uint32_t key_size);
/* At the end of a turn. */
void kv_chain_carry_out(kv_loop *loop);

/* chain_peer.c: what its loops' connections to the successor are to be. */
kv_peer_aim kv_chain_aim(kv_chain *chain);
/* This loop's, aimed at the successor that there is now. Evictions have their own: nothing that
 * waits for space is before them. NULL: no memory. */
kv_peer *kv_chain_peer(kv_chain *chain, kv_loop *loop, bool evicts);
/* Those of a loop that there are. */
void kv_chain_aim_peers(kv_chain *chain, kv_loop *loop);
/* Where it is kept. */
kv_peer **kv_chain_peer_place(kv_chain *chain, const kv_loop *loop, bool evicts);
/* Once for each loss; `reason` for people. */
void kv_chain_tell_lost(kv_chain *chain, int error, const char *reason);
void kv_chain_tell_found(kv_chain *chain);
/* Each loop looks at the chain anew, soon. */
void kv_chain_spread_news(kv_chain *chain);

/* chain_space.c: what is free, and what should be. */
void kv_chain_set_limits(kv_chain *chain);
/* Whether space is so short that an update may have to be refused further down. */
bool kv_chain_is_short(kv_chain *chain);
/* Cache mode: what is lacking here, or further down, and whether somebody waits here. */
void kv_chain_shortage(kv_chain *chain, kv_engine_shortage *shortage);
/* What the predecessor is told of all that. */
void kv_chain_tell_space(kv_chain *chain, kv_wire_forwarded *answer);

/* chain_claim.c: a bounded amount of retained values. True: granted at once; otherwise
 * kv_chain_granted is called later. */
bool kv_chain_claim(kv_chain_update *own, uint64_t size);
/* False: it is granted, and its mail on its way. */
bool kv_chain_unclaim(kv_chain_update *own);
void kv_chain_give_claim(kv_chain_update *own);
void kv_chain_granted(kv_chain_update *own);

/* chain_serve.c: requests of a chain's target, until their values are there. */
void kv_chain_serve(kv_chain *chain, kv_node_request *request, const kv_wire_request *wire);
/* An update whose request has everything but its values. */
void kv_chain_begin(kv_chain_update *own);
/* No value is taken in yet. */
bool kv_chain_waits(const kv_chain_update *own);
/* All values have come. */
void kv_chain_came(kv_chain_update *own);
/* Nobody waits for it any more; no effect once its turn has come. */
void kv_chain_withdraw(kv_chain_update *own, kv_status status);

/* chain_read.c: what may be said of keys: asked before they are looked up, and again after. KV_OK:
 * look them up; otherwise all of the request comes to it. */
kv_status kv_chain_let_in(kv_chain *chain, kv_node_request *request, uint64_t chain_version);
/* Bytes of kv_node_request.dirty. */
size_t kv_chain_dirty_size(uint32_t count);
void kv_chain_check(kv_node_request *request, uint32_t first, uint32_t end);

/* chain_decide.c: kv_chain_decide follows. */
void kv_chain_take_turn(kv_chain_update *own);

/* chain_update.c: effects. */
void kv_chain_update_carry_out(kv_chain_update *own, uint32_t effects);
/* Its operation has given each item its status. */
void kv_chain_answered(kv_chain_update *own);
/* It ends with this status: reply, and free it. */
void kv_chain_end(kv_chain_update *own, kv_status status);

#endif
