/* The storage node's inside, shared by the files of this folder.
 *
 *   kv_node ──► kv_loop (a thread and its reactor) ──► kv_session ──► kv_node_request
 *           ──► kv_target (a store)                                └──► kv_control
 *
 * A loop owns its connections, and they their requests: nobody else touches them, so they have
 * no lock. What several loops touch is in kv_node: behind a mutex, or unchanged while loops run.
 * The engine calls `ready` with its lock held: it only posts mail. */
#ifndef KV_NODE_STATE_H
#define KV_NODE_STATE_H

#include "bytes/clock.h"
#include "bytes/list.h"
#include "drivers/reactor.h"
#include "embedded/owner.h"
#include "node/counters.h"
#include "node/events.h"
#include "node/node_limits.h"
#include "node/blocks.h"
#include "protocol/channel.h"
#include "protocol/hello.h"
#include "protocol/message.h"
#include "protocol/reply.h"
#include "protocol/request.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct kv_loop kv_loop;
typedef struct kv_session kv_session;
typedef struct kv_node_request kv_node_request;
typedef struct kv_control kv_control;

typedef struct kv_chain kv_chain;
typedef struct kv_chain_update kv_chain_update;

typedef struct kv_target {
    uint32_t number;
    kv_store *store;
    kv_engine *engine;
    atomic_bool offline_told; /* an event said so */
    uint64_t ttl_ms;          /* default of its objects */
    uint64_t objects_max;
    uint64_t memory_size;     /* of its DRAM tier */
    uint64_t capacity;
    bool caches;              /* cache mode */
    /* Its part in a chain; NULL: nobody told this node of chains, and it serves by itself. Set
     * once, with everything behind it (release), by kv_node_set_chains. */
    _Atomic(kv_chain *) chain;
} kv_target;

/* Freed with its last holder: hellos go on with the secret they began with. */
typedef struct kv_secret {
    uint32_t references; /* locked */
    uint32_t size;
    uint8_t bytes[];
} kv_secret;

/* The same for what KV_CONTROL_ROUTING answers. */
typedef struct kv_routing {
    uint32_t references; /* locked */
    uint64_t size;
    uint8_t bytes[];
} kv_routing;

/* Options with their defaults filled in. */
typedef struct kv_node_settings {
    uint64_t node;
    uint64_t run;
    uint64_t stall_ns;
    uint64_t idle_ns;
    uint64_t hello_ns;
    uint64_t watch_ns;       /* between two looks at all connections */
    uint64_t memory_loop;    /* budget of a loop */
    uint64_t lent_connection;
    uint64_t lent_loop;
    uint32_t connections_max;
    uint32_t requests_max;
    uint32_t rights;
    uint32_t version_max;  /* of the protocol; 0: the newest */
    uint32_t reactor_driver;
} kv_node_settings;

typedef struct kv_node_listener {
    kv_listener listener;
    kv_mail mail; /* opens it on its loop */
    kv_node *node;
    bool open;
} kv_node_listener;

/* The control thread's, under its mutex. */
typedef struct kv_controls {
    pthread_mutex_t mutex;
    pthread_cond_t wanted;
    pthread_t thread;
    kv_list queue;
    uint32_t count;  /* those that exist */
    uint64_t memory; /* of their replies */
    bool stopping;
    bool started;
} kv_controls;

struct kv_node {
    pthread_mutex_t mutex; /* secret, routing, ends of loops and connections */
    pthread_cond_t quiet;  /* a connection or a loop ended */
    kv_node_settings settings;
    kv_loop *loops;
    uint32_t loop_count;
    uint32_t loops_running;
    bool started;
    kv_target targets[KV_NODE_TARGETS_MAX]; /* unchanged once the loops run */
    uint32_t target_count;
    kv_secret *secret;     /* NULL: none */
    kv_routing *routing;   /* NULL: nothing is published */
    kv_node_listener listeners[KV_NODE_LISTENERS_MAX];
    uint32_t listener_count;
    pthread_mutex_t channels_mutex;
    kv_channels *channels;
    kv_events events;
    kv_controls controls;
    pthread_mutex_t chains_mutex; /* one change of chains at a time */
    struct kv_addresses *addresses; /* of other nodes; NULL before there are chains */
    uint64_t routing_version;     /* of the chains, under chains_mutex */
    _Atomic uint64_t lease_end_ns;
    _Atomic uint64_t resync_rate; /* bytes a second; 0: no limit */
    atomic_bool chained;          /* requests may come to more memory than by themselves */
    atomic_uint connection_count; /* accepted and not gone, refused ones too */
    atomic_uint refused_count;
    _Atomic uint64_t connection_last; /* number of the last one */
    atomic_bool draining;
};

struct kv_loop {
    kv_node *node;
    kv_reactor *reactor;
    pthread_t thread;
    kv_blocks blocks;
    kv_list connections;
    kv_list speaking;      /* connections with something to send at the end of this turn */
    kv_list eager;         /* connections that had more to receive than one turn's share */
    kv_list waiting[KV_NODE_POOLS]; /* connections that wait for memory of a pool */
    uint64_t forward_memory[KV_NODE_POOLS]; /* taken of each pool but the first, which is blocks' */
    kv_list updates;       /* with effects to be carried out at the end of this turn */
    kv_list peers;         /* that exist: connections to other nodes */
    kv_list peers_touched; /* with something to do at the end of this turn */
    uint32_t update_count; /* of chains, that this loop carries */
    kv_timer watch;
    kv_mail stop_mail;
    kv_mail drain_mail;
    uint64_t lent;         /* what requests may hold of the DRAM tiers */
    atomic_uint load;      /* connections, those on their way included */
    uint32_t listener_count;
    bool draining;
    bool stopping;
    bool memory_came;      /* something was given back since `waiting` was looked at */
    kv_reply_item items[KV_NODE_REPLY_ITEMS_MAX]; /* of the reply that is being built */
    kv_counters counters;
};

/* One message on its way out, or several ranges of one. */
typedef struct kv_outgoing_reply {
    kv_node_request *request; /* NULL: of hello, or of control */
    kv_control *control;
    uint32_t bytes_begin;     /* head and columns in the window's bytes */
    uint32_t bytes_size;
    uint32_t bytes_sent;
    uint32_t item_first;      /* LEND: positions in the request's order */
    uint32_t item_count;
    uint64_t item_sent;       /* bytes of item_first, or of the control's body */
    bool last;
} kv_outgoing_reply;

/* What a connection has given, or is about to give, to its socket; only while there is
 * something. */
typedef struct kv_window {
    struct iovec ranges[KV_REACTOR_IOVEC_MAX];
    kv_outgoing_reply replies[KV_NODE_WINDOW_REPLIES];
    uint32_t first; /* not sent completely */
    uint32_t count;
    uint32_t bytes_used;
    uint8_t bytes[KV_NODE_WINDOW_BYTES];
} kv_window;

typedef enum kv_session_state {
    KV_SESSION_GREETS = 0,
    KV_SESSION_SERVES = 1,
    KV_SESSION_LINGERS = 2, /* refused: takes nothing more in, until the other end has read why */
    KV_SESSION_CLOSED = 3
} kv_session_state;

/* Why a connection is not read. */
typedef enum kv_hold {
    KV_HOLD_NONE = 0,
    KV_HOLD_MEMORY = 1, /* the pool's budget is taken */
    KV_HOLD_LENT = 2,   /* its requests hold enough of the DRAM tier */
    KV_HOLD_VALUES = 3  /* the DRAM tier has no room for the value that comes */
} kv_hold;

typedef struct kv_greeting {
    kv_hello hello;
    kv_secret *secret;
} kv_greeting;

struct kv_session {
    kv_socket socket;
    kv_mail mail; /* its arrival on its loop */
    kv_loop *loop;
    kv_list link;
    kv_list speaking_link;
    kv_list eager_link;
    kv_list waiting_link;
    kv_list requests;      /* whose operation or last reply is not over */
    kv_list answers;       /* requests with something to say */
    uint64_t id;
    uint32_t references;   /* the socket's, and one for each request and control */
    kv_session_state state;
    kv_hold hold;
    bool refused;          /* beyond connections_max, or while draining */
    bool receiving;        /* a receive is out; never while there is a hold */
    bool sending;
    bool gone;             /* its socket is closed, and it lives on for what runs */
    bool head_known;
    bool admitted;         /* what the message in `head` needs is reserved */
    kv_message_head head;
    kv_greeting *greeting;
    kv_node_request *incoming; /* its values are arriving */
    kv_control *control;
    uint32_t rights;
    uint8_t version;       /* of the protocol, as agreed in hello */
    uint32_t pool;         /* whose memory its messages take */
    uint32_t in_flight;    /* requests whose last reply is not built */
    uint64_t lent;         /* what its requests may hold of the DRAM tier */
    uint64_t message_reserved;
    uint64_t buffer_reserved;
    uint8_t *buffer;       /* bytes_small or a larger one */
    uint32_t capacity;
    uint32_t begin;
    uint32_t end;
    uint32_t arrived;      /* bytes since receive_mark_ns */
    uint64_t receive_mark_ns;
    uint64_t send_mark_ns;
    uint64_t active_ns;    /* accepted, or the last request came */
    kv_window *window;
    struct iovec range;
    struct sockaddr_storage address;
    uint32_t prefix_size;
    uint8_t prefix[KV_NODE_PREFIX_SIZE_MAX]; /* of stored keys */
    uint8_t client[KV_CLIENT_ID_SIZE];
    uint8_t bytes_small[KV_NODE_BUFFER_SMALL_SIZE];
};

/* A request from its columns to its last reply. */
struct kv_node_request {
    kv_owner owner;
    kv_mail mail;          /* `ready` */
    kv_timer deadline;
    kv_list link;          /* connection->requests */
    kv_list answer_link;   /* connection->answers */
    kv_session *session;
    kv_target *target;
    kv_operation *operation; /* NULL: none, or ended */
    kv_channel *channel;
    kv_request request;
    uint32_t *order;       /* LEND: items as they were named */
    uint64_t id;
    uint64_t arrived_ns;   /* its last byte */
    uint64_t reserved;
    uint64_t lent;
    size_t size;           /* of this block */
    kv_chain_update *update; /* an update of a chain, until it has ended there */
    uint64_t epoch;        /* a read of a chain's target: as which it was let in; else 0 */
    uint8_t *dirty;        /* a read: bits of the keys that were dirty before it; NULL: none */
    uint64_t chain_version;/* a forward: that the target went by when it ended */
    uint32_t forward;      /* kv_forward_kind; 0: a client's */
    uint32_t pool;         /* of `reserved` */
    uint32_t kind;         /* on the wire */
    uint32_t count;
    uint32_t named;        /* items that can be replied to; LEND: positions in order */
    uint32_t replied;
    uint32_t returned;     /* LEND: positions in order */
    uint32_t push_item;    /* SET: where the next byte goes */
    uint32_t push_offset;
    int32_t status;        /* what becomes of all items when none was begun */
    bool answered;
    bool arriving;         /* SET: not all values came */
    bool broken;           /* the connection went before all values came */
    bool spoken;           /* its last reply is built */
    bool over;             /* its last reply is sent, or nobody waits for it */
};

/* loop.c: the threads. */
int kv_loop_open(kv_loop *loop, kv_node *node);
void kv_loop_close(kv_loop *loop);
int kv_loop_start(kv_loop *loop);
/* From any thread. */
void kv_loop_stop(kv_loop *loop);
void kv_loop_drain(kv_loop *loop);
/* Memory of a pool for what a message may come to; false: not now. What exceeds a pool is granted
 * when nothing else is in it. */
bool kv_loop_reserve(kv_loop *loop, uint32_t pool, uint64_t size);
void kv_loop_release(kv_loop *loop, uint32_t pool, uint64_t size);
/* At the end of this turn the connection's replies are sent. */
void kv_loop_speak(kv_loop *loop, kv_session *session);

/* listen.c: accepting, and who is refused at the door. */
int kv_listen_open(kv_node *node, const char *host, uint32_t port, char *message);
/* On loop 0. */
void kv_listen_close_all(kv_node *node);

/* session.c */
/* Take over a descriptor and hand it to a loop. From loop 0. `refusal`: not to be served, and
 * why. -ENOMEM: the descriptor is still the caller's. */
int kv_session_open(kv_loop *loop, int descriptor, const struct sockaddr_storage *address,
                    bool refused);
/* End it and report why; what it has out is given back when the socket is closed. */
void kv_session_cut(kv_session *session, kv_node_event_kind kind, int error, const char *format,
                    ...)
    __attribute__((format(printf, 4, 5)));
void kv_session_watch(kv_session *session, uint64_t now_ns);
/* While draining: close it if nothing is under way. */
void kv_session_rest(kv_session *session);
/* After the refusal was sent: wait until the other end has read it. */
void kv_session_linger(kv_session *session);
void kv_session_release(kv_session *session);
/* "127.0.0.1:4711" */
#define KV_ADDRESS_TEXT_SIZE 64u
const char *kv_session_address(const kv_session *session, char text[KV_ADDRESS_TEXT_SIZE]);

/* greeting.c: hello on a connection. */
int kv_greeting_begin(kv_session *session);
void kv_greeting_step(kv_session *session, const kv_message_head *head, const uint8_t *bytes);
void kv_greeting_end(kv_session *session);
void kv_greeting_refuse(kv_session *session);
/* NULL for none. */
kv_secret *kv_secret_hold(kv_node *node);
void kv_secret_release(kv_node *node, kv_secret *secret);

static inline bool kv_session_is_live(const kv_session *session)
{
    return session->state != KV_SESSION_CLOSED;
}

/* receive.c: from bytes to messages. */
void kv_receive_done(kv_session *session, int64_t result);
/* Begin to read, or go on if nothing is in the way any more. */
void kv_receive_go_on(kv_session *session);
/* Back to the small buffer; what is in the larger one fits it. */
void kv_receive_shrink(kv_session *session);
static inline bool kv_receive_is_between(const kv_session *session)
{
    return !session->incoming && session->begin == session->end;
}

/* incoming.c: requests from columns to batches. */
/* Memory that a request with this head may come to, its reply apart. */
uint64_t kv_incoming_bound(const kv_session *session, const kv_message_head *head);
/* The columns are complete and verified. Takes over session->message_reserved; may cut the
 * connection. */
void kv_incoming_begin(kv_session *session, const kv_message_head *head, const uint8_t *columns);

/* A block for a request whose keys take so many bytes as they are stored; takes over what the
 * connection reserved. NULL: no memory. */
kv_node_request *kv_incoming_create(kv_session *session, uint32_t operation, uint32_t count,
                                    uint64_t keys_size, uint64_t id);
/* Where keys begin in the block, behind items, stats and order. */
uint8_t *kv_incoming_keys(kv_node_request *request);
/* Whether the update is to be applied; otherwise it was answered, or the connection cut. */
bool kv_incoming_enter_channel(kv_node_request *request, const kv_wire_request *wire);

/* forwarding.c: what another node sends down a chain. */
uint64_t kv_forwarding_bound(const kv_message_head *head);
void kv_forwarding_begin(kv_session *session, const kv_message_head *head, const uint8_t *columns);

/* serving.c: their operations. */
void kv_serving_init(kv_node_request *request);
void kv_serving_begin(kv_node_request *request, uint32_t timeout_ms);
/* A target that a request of this connection has waited for too long, and that has no part in its
 * chain any more: its device may never answer. NULL: none. */
const kv_target *kv_serving_stranded(const kv_session *session, uint64_t now_ns);
/* Every item has its status. */
void kv_serving_answered(kv_node_request *request);
/* All items come to `status`, without an operation. */
void kv_serving_refuse(kv_node_request *request, kv_status status);
/* Whether another operation may begin, as far as the DRAM tier is concerned. */
bool kv_serving_may_lend(const kv_session *session);
/* The next bytes of values; returns how many were taken. session->incoming is NULL once all are. */
uint32_t kv_serving_push(kv_session *session, const uint8_t *bytes, uint32_t size);
void kv_serving_cancel(kv_session *session, uint64_t id);
/* The connection is closed: what nobody waits for is given up. `all`: so are updates. */
void kv_serving_abandon(kv_session *session, bool all);
/* Its last reply was sent, or never will be; frees it when its operation has ended, too. */
void kv_serving_settle(kv_node_request *request);
/* Operation and deadline of a request whose operation is begun by somebody else. */
void kv_serving_step(kv_node_request *request);
void kv_serving_set_deadline(kv_node_request *request, uint32_t timeout_ms);
/* Free it if nothing is left of it. */
void kv_serving_forget(kv_node_request *request);
/* The value at the next position was sent, or never will be: give it back. */
void kv_serving_return(kv_node_request *request, uint32_t position);

/* outgoing.c: replies. */
void kv_outgoing_flush(kv_session *session);
void kv_outgoing_sent(kv_session *session, int64_t result);
/* Something of a request, or the control, can be said. */
void kv_outgoing_speak(kv_node_request *request);
/* The socket is closed: forget what was not sent. */
void kv_outgoing_close(kv_session *session);
/* A message of hello; sent at the end of this turn. */
uint8_t *kv_outgoing_room(kv_session *session);
void kv_outgoing_add(kv_session *session, uint32_t size);

/* control.c */
void kv_control_init(kv_node *node);
int kv_control_start(kv_node *node);
/* Waits for the one that runs; those that wait are answered with -ESHUTDOWN. */
void kv_control_stop(kv_node *node);
void kv_control_join(kv_node *node);
void kv_control_close(kv_node *node);
void kv_control_begin(kv_session *session, const kv_message_head *head, const uint8_t *body);
/* On the loop: the reply to encode and its body. True: it is ready. */
bool kv_control_reply(const kv_control *control, kv_message_head *head, const uint8_t **body);
/* The reply was sent, or never will be. */
void kv_control_settle(kv_control *control);

/* node.c */
kv_target *kv_node_target(kv_node *node, uint32_t number);
/* NULL for none. */
kv_routing *kv_routing_hold(kv_node *node);
void kv_routing_release(kv_node *node, kv_routing *routing);

#endif
