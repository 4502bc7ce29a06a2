/* What the files of a mover share: its state, and the batch that is under way. See mover.h. */
#ifndef KV_MOVER_STATE_H
#define KV_MOVER_STATE_H

#include "embedded/owner.h"
#include "node/mover.h"
#include "protocol/placement.h"

#define KV_MOVER_SLOT_WORDS (KV_SLOT_COUNT_MAX / 64)

/* A key that has changed. */
typedef struct kv_move_note {
    kv_list link;
    uint32_t key_size;
    uint8_t key[];
} kv_move_note;

/* Keys on their way:
 *
 *   FREE ──► LOOKS ──► SETS ──► RETURNS ──► DELETES ──► FREE
 *            values    the      lent        what is not
 *            are lent  values   values      here
 */
typedef enum kv_move_step {
    KV_MOVE_STEP_FREE = 0,
    KV_MOVE_STEP_LOOKS = 1,
    KV_MOVE_STEP_SETS = 2,
    KV_MOVE_STEP_RETURNS = 3,
    KV_MOVE_STEP_DELETES = 4
} kv_move_step;

typedef struct kv_move_batch {
    kv_move_step step;
    kv_operation *operation; /* NULL: none, or ended */
    kv_request request;
    bool answered;
    bool unreadable;         /* a value is damaged here */
    uint32_t named;
    uint32_t count;
    uint64_t keys_size;
    kv_item items[KV_NODE_RESYNC_BATCH_COUNT];
    kv_item_stat stats[KV_NODE_RESYNC_BATCH_COUNT];
    uint8_t keys[KV_NODE_RESYNC_BATCH_COUNT * KV_STORED_KEY_SIZE_MAX];
} kv_move_batch;

struct kv_mover {
    kv_owner owner;
    kv_mail mail;
    kv_chain *chain;
    kv_loop *loop;
    kv_peer *peer;           /* the peer's, too: it makes it NULL */
    kv_timer timer;
    kv_peer_message message;
    kv_move wanted;          /* this and all down to `slots`: behind the chain's mutex */
    uint32_t endpoint;
    uint32_t state;
    uint64_t id_ended;       /* of the last move that ended before it was taken back */
    uint64_t sent;
    bool noting;
    bool overflown;
    uint32_t note_count;
    kv_list notes;
    uint64_t slots[KV_MOVER_SLOT_WORDS];
    kv_move run;             /* the loop's, as everything from here */
    uint64_t run_slots[KV_MOVER_SLOT_WORDS];
    uint32_t attempt;
    uint64_t cursor;
    uint8_t *page;           /* while it runs */
    uint32_t page_size;
    uint32_t page_at;
    uint64_t due_ns;
    bool walked;
    bool asked;              /* the message is under way */
    bool dropping;           /* ... and nobody wants it any more */
    bool refused;            /* ... or waits, as there is no room over there */
    bool working;
    kv_move_batch *batch;    /* while it runs */
};

/* Whether a stored key is in one of these slots. */
bool kv_mover_has(const uint64_t *slots, uint32_t table_size, const void *key, uint32_t key_size);
/* move_batch.c. Add a key whose value has about this size; the batch is free, or being filled. */
void kv_move_batch_add(kv_move_batch *batch, const void *key, uint32_t key_size, uint64_t size);
/* It goes its way; kv_mover_look follows. */
void kv_move_batch_begin(kv_mover *mover);
void kv_move_batch_send(kv_mover *mover);
/* Nothing of it is wanted any more. False: it is not free yet; kv_mover_look follows. */
bool kv_move_batch_drop(kv_mover *mover);
void kv_move_batch_deliver(kv_mail *mail);
void kv_move_batch_ready(kv_owner *owner);
void kv_move_batch_answered(kv_owner *owner);
/* In mover.c: this was taken over there. */
void kv_mover_batch_ended(kv_mover *mover, uint32_t count, uint64_t size);

#endif
