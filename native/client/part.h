/* One message-sized part of a call, from the cut to its last reply.
 *
 *             encode           all bytes sent        last reply, all settled
 *   WAITING ──────────► SENDING ──────────────► SENT ───────────────────────► freed
 *      ▲                                         │ busy, other target, dirty
 *      └──────────── PAUSED ◄────────────────────┘
 *        cut anew, or the same again, when the pause ends or (`held`) newer routing info comes
 *
 * Invariants: `touched` once a byte may have reached a node; only a part in SENDING or SENT has a
 * request id and, if it updates, holds a channel, with two exceptions: a touched update of a lost
 * connection is WAITING or PAUSED with its channel, to be repeated as it was, and so is one whose
 * node was too busy for it, or did not serve it, while an earlier sending may have been applied. */
#ifndef KV_PART_H
#define KV_PART_H

#include "bytes/list.h"
#include "client/batch.h"
#include "client/load.h"
#include "drivers/reactor.h"

typedef enum kv_part_state {
    KV_PART_WAITING = 1, /* on its connection's list */
    KV_PART_SENDING = 2, /* on its connection's list */
    KV_PART_SENT = 3,
    KV_PART_PAUSED = 4 /* its timer is set; on the lane's list if it is held */
} kv_part_state;

typedef struct kv_part {
    kv_list link; /* the connection's */
    kv_list call_link;
    struct kv_call *call; /* NULL: it was given up; replies are taken and forgotten */
    struct kv_lane *lane;
    struct kv_connection *connection; /* NULL: PAUSED, and its chain had no member */
    kv_load *load;                    /* that counts it; NULL: none */
    kv_timer pause;
    kv_part_state state;
    uint32_t operation; /* kv_operation_kind; 0: a control request */
    uint32_t target;
    uint32_t chain; /* index in the routing info of `generation` */
    uint32_t count;
    uint32_t control;  /* kv_control_kind */
    uint32_t attempts; /* that came back busy */
    uint32_t moves;    /* from nodes that kept a read without a word */
    uint32_t slot;     /* SENDING, SENT: among the connection's requests in flight */
    uint32_t channel;
    uint64_t chain_version; /* 0: the routing info has no chains */
    uint64_t generation;    /* of the routing info that it went by */
    uint64_t sequence;      /* updates that hold a channel; 0: none */
    uint64_t run;         /* of the node that was given the update */
    uint64_t values_size; /* to send */
    uint64_t room;        /* for values that come back */
    uint64_t sent_size;   /* of message and values */
    uint64_t sent_ns;
    uint64_t request;        /* id */
    uint32_t value_position; /* where sending goes on: item, and byte of its value */
    uint32_t value_offset;
    uint32_t answered_count; /* items that replies to this attempt carried */
    uint32_t message_size;   /* head and columns */
    bool touched;
    bool ended;          /* its last reply came, while it was still being sent */
    bool pauses;         /* some item is to be asked for again, but not at once */
    bool misplaced;      /* some item was refused for its chain version, or has moved */
    bool dirty;          /* some item is to be asked for at the tail */
    bool elsewhere;      /* some item is to be asked for at another member */
    bool refused;        /* the node did not say what became of this sequence: the same again */
    bool tail;           /* it went to the tail of its chain */
    bool repeated;       /* an update whose earlier sending may have been applied */
    bool idempotent;     /* may be sent again without a channel */
    bool summed;         /* checksums are computed */
    uint32_t *indices;   /* of the request's items */
    uint32_t *checksums; /* SET */
    uint8_t *answered;
    uint8_t *message;
} kv_part;

/* What a message says beside its items. */
typedef struct kv_part_envelope {
    uint64_t request;
    uint32_t timeout_ms;
    uint8_t version;
    bool repeated;
} kv_part_envelope;

/* NULL: no memory. */
kv_part *kv_part_open(const kv_batch *batch, const kv_cut *cut);
kv_part *kv_part_open_control(uint32_t kind, uint32_t target, const void *body, uint32_t body_size);
void kv_part_close(kv_part *part);
/* Count it as work of a node from now on (NULL: of none). */
void kv_part_charge(kv_part *part, kv_load *load, uint64_t now_ns);
/* Make the message, to be sent from its first byte. Computes checksums the first time. */
void kv_part_encode(kv_part *part, const kv_request *request, const kv_part_envelope *envelope);
/* Ranges of what is left to send; returns how many, with their bytes in *size. */
uint32_t kv_part_ranges(const kv_part *part, const kv_request *request, struct iovec *ranges,
                        uint32_t max, uint64_t *size);
/* So many bytes more were sent. */
void kv_part_advance(kv_part *part, const kv_request *request, uint64_t size);

static inline uint64_t kv_part_size(const kv_part *part)
{
    return part->message_size + part->values_size;
}

#endif
