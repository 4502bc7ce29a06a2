/* A loop's connection to the node of a chain's next target: connects, says hello, carries
 * messages, breaks, and sends again what nobody answered.
 *
 *            a message waits          resolved             connected         WELCOME
 *   DOWN ──────────────────► RESOLVING ─────────► CONNECTING ─────────► HELLO ─────────► READY
 *    ▲                          │                     │                   │                │
 *    │        closed            └─────────────────────┴──────── error ────┴────────────────┤
 *    └─────────────────────────────────── CLOSING ◄────────────────────────────────────────┘
 *
 *   message: IDLE ──send──► WAITS ──► SENDING ──► SENT ──answered──► IDLE
 *                             ▲──────────┴──────────┘ the connection broke
 *
 * 1. What is being sent stays untouched until it was sent, or the socket is closed: a message
 *    that nobody wants any more is given up then (`dropped`).
 * 2. A refusal that time heals (another chain version, busy) makes the connection rest for a
 *    moment; from then on it sends one message at a time until one is taken.
 * 3. Who sends decides what is sent again: an answer of any kind makes its message IDLE. */
#ifndef KV_PEER_H
#define KV_PEER_H

#include "bytes/random.h"
#include "node/node_state.h"
#include "protocol/forward.h"

typedef struct kv_peer kv_peer;
typedef struct kv_peer_message kv_peer_message;

/* Where a connection goes. */
typedef struct kv_peer_aim {
    uint32_t endpoint; /* of node->addresses; KV_CHAIN_NO_ENDPOINT: nowhere */
    uint32_t target;
    uint32_t pool;     /* that the messages take memory of, over there */
    bool closes;       /* without a message under way */
} kv_peer_aim;

/* Whose message it is. */
typedef struct kv_peer_sender {
    /* The most that the columns may come to. */
    uint32_t (*columns_size)(kv_peer_message *message);
    /* Write columns, as head->version has them; `head` has everything but its sizes and kind. Returns
     * their size. */
    uint32_t (*encode)(kv_peer_message *message, kv_message_head *head, uint8_t *columns);
    /* Size of the value of item i, and where it is; NULL: no values. */
    uint32_t (*value_size)(kv_peer_message *message, uint32_t i);
    uint32_t (*value)(kv_peer_message *message, uint32_t i, struct iovec *ranges);
    /* The answer. The message is IDLE. A negative errno: it breaks the protocol; the message is
     * sent again by another connection. */
    int (*answered)(kv_peer_message *message, const kv_message_head *head, const uint8_t *columns);
    /* Of CONTROL: bytes of the reply's body, in order; NULL for others. */
    void (*body)(kv_peer_message *message, const uint8_t *bytes, uint32_t size);
    /* Of the protocol, that knows it; 0: any. With an older one it is not sent, but IDLE, and
     * `unspoken` is called. */
    uint8_t version_min;
    void (*unspoken)(kv_peer_message *message);
    /* After kv_peer_drop that said false: it is IDLE. */
    void (*freed)(kv_peer_message *message);
} kv_peer_sender;

typedef enum kv_peer_message_state {
    KV_PEER_IDLE = 0,
    KV_PEER_WAITS = 1,
    KV_PEER_SENDING = 2,
    KV_PEER_SENT = 3
} kv_peer_message_state;

struct kv_peer_message {
    kv_list link;            /* peer->waiting, sending or sent */
    const kv_peer_sender *sender;
    kv_peer_message_state state;
    bool again;              /* SENDING: anew afterwards, what it says has changed */
    bool dropped;            /* SENDING: nobody wants it any more */
    bool forgotten;          /* SENDING: its answer is not waited for */
    uint32_t kind;           /* KV_MESSAGE_FORWARD, or KV_MESSAGE_CONTROL */
    uint32_t count;          /* items */
    uint64_t request;
    uint64_t sent_ns;
    uint8_t *bytes;          /* SENDING: head and columns */
    uint32_t bytes_size;
    uint32_t bytes_capacity;
    uint32_t bytes_sent;
    uint32_t item;           /* whose value comes next */
    uint64_t item_sent;
};

typedef enum kv_peer_state {
    KV_PEER_DOWN = 0,
    KV_PEER_RESOLVING = 1,
    KV_PEER_CONNECTING = 2,
    KV_PEER_HELLO = 3,
    KV_PEER_READY = 4,
    KV_PEER_CLOSING = 5
} kv_peer_state;

struct kv_peer {
    kv_socket socket;
    kv_timer timer;
    kv_chain *chain;
    struct kv_mover *mover; /* whose it is; NULL: the chain's, to its successor */
    kv_peer **held_at;     /* where whoever has it knows it; NULL there once it is freed */
    kv_loop *loop;
    bool evicts;           /* it carries evictions, and nothing else */
    kv_list link;          /* loop->peers */
    kv_list touched_link;  /* loop->peers_touched */
    kv_peer_state state;
    kv_peer_aim aim;
    kv_hello *hello;
    kv_secret *secret;
    kv_hello_grant grant;
    uint8_t version;       /* READY: of the protocol, as agreed in hello */
    kv_random random;
    kv_list waiting;
    kv_list sending;
    kv_list sent;
    uint32_t in_flight;    /* sending and sent */
    uint32_t attempts;
    uint32_t pauses;
    bool probing;          /* one message at a time */
    bool receiving;
    bool sends;            /* a send is out */
    bool silence_told;
    bool stopping;
    bool head_known;
    int error;
    uint64_t request_last;
    uint64_t not_before_ns; /* nothing begins before */
    uint64_t attempt_end_ns;
    uint64_t heard_ns;     /* something came, or was taken, or there was nothing to wait for */
    kv_message_head head;
    kv_peer_message *control; /* whose reply's body comes */
    uint32_t body_left;
    uint32_t begin;        /* of what is unread in `buffer` */
    uint32_t end;
    uint32_t own_size;     /* bytes of hello to be sent */
    uint32_t own_sent;
    struct iovec range;
    struct iovec ranges[KV_REACTOR_IOVEC_MAX];
    uint8_t own[KV_HELLO_MESSAGE_SIZE_MAX];
    uint8_t buffer[KV_NODE_PEER_BUFFER_SIZE];
};

/* peer.c. NULL: no memory. */
kv_peer *kv_peer_open(kv_chain *chain, kv_loop *loop, bool evicts, kv_peer **held_at,
                      struct kv_mover *mover);
/* While a loop stops: each is closed and freed. */
void kv_peer_close_all(kv_loop *loop);
void kv_peer_work_all(kv_loop *loop);
void kv_peer_touch(kv_peer *peer);
/* Elsewhere from now on, if that is another place. */
void kv_peer_set_aim(kv_peer *peer, const kv_peer_aim *aim);
/* Send the message; again, with what it says now, if it is under way. */
void kv_peer_send(kv_peer *peer, kv_peer_message *message);
/* The message is wanted no more. False: it is being sent, and `freed` will be called. */
bool kv_peer_drop(kv_peer *peer, kv_peer_message *message);
/* After a refusal that time heals. */
void kv_peer_pause(kv_peer *peer);
/* A message was taken. */
void kv_peer_resume(kv_peer *peer);
void kv_peer_break(kv_peer *peer, int error, const char *reason);

/* peer_send.c. False: the connection broke. */
bool kv_peer_write(kv_peer *peer);
bool kv_peer_written(kv_peer *peer, int64_t result);
/* It is sent no more. */
void kv_peer_message_rest(kv_peer *peer, kv_peer_message *message);

/* peer_receive.c. False: the connection broke. */
bool kv_peer_read(kv_peer *peer);
bool kv_peer_came(kv_peer *peer, int64_t result);

#endif
