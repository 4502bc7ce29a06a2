/* What the files of resync share: one run, its page, and the questions that it puts to the
 * successor. Internal to resync*.c. */
#ifndef KV_RESYNC_STATE_H
#define KV_RESYNC_STATE_H

#include "node/digest.h"
#include "node/resync.h"
#include "node/stored.h"

/* Offsets in an entry of kv_engine_list_stored. */
#define KV_ENTRY_AT_FLAGS 2u
#define KV_ENTRY_AT_SIZE 4u
#define KV_ENTRY_AT_VERSION 12u

typedef enum kv_resync_stage {
    KV_RESYNC_REST = 0,
    KV_RESYNC_QUIET = 1,
    KV_RESYNC_DIGEST = 2,
    KV_RESYNC_ASK = 3,
    KV_RESYNC_REMOVE = 4,
    KV_RESYNC_COMPARE = 5,
    KV_RESYNC_TELL = 6
} kv_resync_stage;

#define KV_RESYNC_CURSOR_SIZE 8u /* before the bytes of a reply */

typedef struct kv_resync_digest {
    kv_digest cut;
    uint64_t *sums;     /* own ones, less those of the successor; NULL once they are compared */
    uint8_t *differing; /* the set of parts where that is not 0; NULL: it does not run */
    uint8_t *reply;     /* the successor's */
    uint32_t reply_size;
} kv_resync_digest;

struct kv_resync {
    kv_chain *chain;
    kv_loop *loop;
    kv_timer timer;
    kv_peer_message message; /* COMPARE, a list of the successor's, or SYNCED */
    kv_resync_stage stage;
    uint32_t target;         /* that the message was put to */
    uint64_t version;        /* of the chain, that this run goes by, or went by to its end */
    uint64_t cursor;         /* of the next page */
    uint8_t *page;           /* while it runs */
    uint32_t page_size;
    uint32_t page_at;        /* entries before it were dealt with */
    uint32_t pages;          /* of own objects that were taken in this turn of the loop */
    kv_resync_digest digest;
    uint32_t body_filled;    /* bytes of the successor's list, or digest, that came */
    const uint8_t *parts[KV_NODE_RESYNC_COMPARE_COUNT]; /* entries that are, or were, compared */
    uint32_t part_count;
    const uint8_t *wanted[KV_NODE_RESYNC_COMPARE_COUNT]; /* entries to be sent, or removed */
    uint32_t wanted_count;
    uint32_t wanted_at;
    uint32_t batch_count;    /* under way */
    kv_sync_batch *kept[KV_NODE_RESYNC_IN_FLIGHT]; /* not under way, to be tried once more */
    uint32_t kept_count;
    uint64_t kept_due_ns;
    bool probing;            /* something found no room: one batch at a time */
    uint32_t vain;           /* batches in a row, each alone under way, that found no room */
    uint64_t due_ns;         /* nothing leaves before: the rate */
    uint64_t turns;          /* TELL: updates that had their turn before it; they end first */
    bool asked;              /* the message is under way */
    bool dropping;           /* ... and nobody wants it any more */
    bool failed;             /* something did not get there: begin anew */
    bool working;
    atomic_bool running;
    _Atomic uint64_t vain_since_ns; /* the first of them; 0: none */
    _Atomic uint64_t compared;
    _Atomic uint64_t sent;
    _Atomic uint64_t sent_bytes;
};

/* The run is over, or none is wanted. */
void kv_resync_rest(kv_resync *resync);
/* Look again in a moment. */
void kv_resync_pause(kv_resync *resync);

/* resync_digest.c. False: no memory. */
bool kv_resync_digest_begin(kv_resync *resync);
void kv_resync_digest_end(kv_resync *resync);
/* The page, of own objects, counts; so does the successor's reply. */
void kv_resync_digest_add(kv_resync *resync);
void kv_resync_digest_take(kv_resync *resync);
/* The successor has no digests: every part counts as differing. */
void kv_resync_digest_forgo(kv_resync *resync);
/* Everything counts by now. */
void kv_resync_digest_compare(kv_resync *resync);
/* Whether the key lies in a part that is not alike. */
bool kv_resync_digest_differs(const kv_resync *resync, const void *key, uint32_t key_size);

/* resync_messages.c: one at a time; kv_resync_look follows the answer. */
/* What of `parts` the successor lacks goes to `wanted`. */
void kv_resync_compare(kv_resync *resync);
/* The successor's digest from `cursor` on is taken. */
void kv_resync_ask(kv_resync *resync);
/* The successor's objects from `cursor` on, of parts that differ, become the page. */
void kv_resync_list(kv_resync *resync);
/* The successor lacks nothing any more. */
void kv_resync_tell(kv_resync *resync);

#endif
