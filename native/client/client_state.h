/* The client's inside, shared by the files of this folder.
 *
 *   client ──► lanes ──► connections, one for each node of the lane ──► parts in flight
 *      └─────► calls ──► parts ──────────────────────────────────────────┘
 *
 * A lane and everything below it belong to one thread at a time: a background lane to its own, any
 * other to the caller that has checked it out. The client's mutex guards the lists of calls and
 * lanes and the routing info, and is never held during I/O. */
#ifndef KV_CLIENT_STATE_H
#define KV_CLIENT_STATE_H

#include "bytes/clock.h"
#include "client/addresses.h"
#include "client/backoff.h"
#include "client/part.h"
#include "client/sequences.h"
#include "client/trouble.h"
#include "drivers/queue.h"
#include "drivers/reactor.h"
#include "protocol/hello.h"
#include "protocol/reply.h"

#include <errno.h>
#include <pthread.h>

#define KV_NS_PER_MS 1000000u

typedef struct kv_lane kv_lane;

typedef enum kv_call_kind {
    KV_CALL_BATCH = 1,
    KV_CALL_FLUSH = 2, /* a control request to every place */
    KV_CALL_CONTROL = 3
} kv_call_kind;

/* A control request, and what it came to. */
typedef struct kv_control {
    uint32_t endpoint;
    uint32_t target;
    uint32_t kind;
    uint32_t body_size;
    const void *body;
    void *reply;
    uint64_t reply_size;
    int64_t result; /* bytes or a negative errno */
    char *message;
} kv_control;

/* A request of the caller while the client has it. */
typedef struct kv_call {
    kv_batch batch; /* of KV_CALL_CONTROL: none */
    kv_call_kind kind;
    kv_control *control;
    kv_list link; /* the lane's */
    kv_list client_link;
    kv_list parts;
    kv_client *client;
    kv_lane *lane;           /* client's mutex */
    kv_route_table *routing; /* held */
    kv_queue *queue;         /* asynchronous */
    uint64_t tag;
    uint64_t deadline_ns;
    kv_mail mail;
    kv_timer timer;
    atomic_bool cancelled;
    bool given_up; /* it ends as soon as nothing touches the caller's memory any more */
    bool finished; /* the blocking caller may leave */
    uint8_t marks[];
} kv_call;

typedef enum kv_connection_state {
    KV_CONNECTION_DOWN = 0,
    KV_CONNECTION_RESOLVING = 1,
    KV_CONNECTION_CONNECTING = 2,
    KV_CONNECTION_HELLO = 3,
    KV_CONNECTION_READY = 4,
    KV_CONNECTION_CLOSING = 5
} kv_connection_state;

/* What arrives: unread bytes are buffer[begin ... filled). */
typedef struct kv_receiving {
    uint8_t *buffer;
    uint32_t size;
    uint32_t begin;
    uint32_t filled;
    uint32_t values_begin; /* in_values: where the columns end, which stay in place */
    bool out;              /* the reactor has the ranges */
    bool head_known;
    bool in_values;
    kv_message_head head;
    kv_wire_reply reply;
    kv_part *part;     /* in_values: whose reply it is */
    uint32_t position; /* of the item whose value comes, in the reply */
    kv_reply_item item;
    uint32_t offset;      /* bytes of that value that came */
    uint32_t checksum;    /* of those */
    uint64_t values_left; /* bytes of values still to come */
    uint64_t direct_size; /* of the ranges that are out: bytes before those that go to the buffer */
    struct iovec ranges[KV_REACTOR_IOVEC_MAX];
} kv_receiving;

typedef struct kv_sending {
    bool out;            /* the reactor has the ranges */
    uint32_t block_size; /* own bytes that go before the parts */
    uint32_t block_sent;
    uint8_t block[KV_HELLO_MESSAGE_SIZE_MAX];
    struct iovec ranges[KV_REACTOR_IOVEC_MAX];
} kv_sending;

/* One lane's connection to one node. See connection.c. */
typedef struct kv_connection {
    kv_lane *lane;
    uint32_t endpoint;
    kv_connection_state state;
    kv_list dirty; /* lane->dirty: wants kv_connection_work */
    kv_socket socket;
    kv_timer timer;
    uint64_t not_before_ns; /* DOWN: of the next attempt */
    uint64_t attempt_end_ns;
    uint64_t silent_since_ns; /* READY: nothing came since, although something is in flight */
    uint64_t used_ns;
    uint32_t attempts; /* since the last reply */
    uint32_t refusals; /* in a row */
    int error;         /* CLOSING: why */
    bool welcomed;     /* ever */
    kv_hello *hello;
    kv_hello_grant grant;
    uint8_t version;
    kv_list waiting;
    kv_list sending_parts;
    kv_part *in_flight[KV_CLIENT_IN_FLIGHT_MAX];
    uint64_t cancels; /* slots of requests that the node is to be told not to go on with */
    uint32_t in_flight_count;
    uint32_t control_count; /* control requests in flight: at most one, as nodes want it */
    uint32_t large_count;   /* requests in flight whose replies do not fit the buffer */
    uint64_t request;       /* number of the last one */
    kv_timer channel_pause; /* set: no update channel was to be had */
    kv_timer departure;     /* set: its node has left the chain of something in flight */
    kv_timer silence;       /* set: a read in flight could be asked for elsewhere */
    kv_sending sending;
    kv_receiving receiving;
} kv_connection;

/* Written by the lane's thread alone, read by any. */
typedef struct kv_lane_counters {
    atomic_ullong connections, connects, connect_failures, reconnects;
    atomic_ullong batches, parts, retries, timeouts;
    atomic_ullong sent_bytes, received_bytes, corrupt_values;
} kv_lane_counters;

struct kv_lane {
    kv_client *client;
    kv_reactor *reactor;
    kv_list link; /* client->idle_lanes, client's mutex */
    kv_list calls;
    kv_list dirty;
    kv_list held;                /* parts that wait for newer routing info */
    uint64_t generation;         /* of the routing info that it has placed its parts by */
    kv_connection **connections; /* by endpoint */
    uint32_t connection_capacity;
    uint32_t sockets; /* open, or not told closed */
    uint32_t load;    /* asynchronous calls; client's mutex */
    uint8_t *scratch;
    uint64_t used_ns;
    kv_random random;
    kv_lane_counters counters;
    kv_mail cancel_mail;
    kv_mail routing_mail;
    bool cancel_posted;  /* client's mutex */
    bool routing_posted; /* client's mutex */
    bool restless;       /* a blocking call had trouble: newer routing info may help it */
    bool background;
    bool working; /* kv_lane_work is on the stack */
    bool closing;
    pthread_t thread;
};

struct kv_client {
    pthread_mutex_t mutex;
    pthread_cond_t lane_free;
    pthread_cond_t calls_end;
    kv_hello_names names;
    uint8_t secret[KV_CLIENT_SECRET_SIZE_MAX];
    uint32_t secret_size;
    uint32_t lane_count_max; /* background */
    uint32_t blocking_count_max;
    uint32_t reactor_driver;
    bool verify;
    bool closing;
    uint64_t timeout_ms;
    uint64_t connect_timeout_ms;
    kv_addresses *addresses;
    kv_load *loads; /* by endpoint */
    kv_sequences sequences;
    kv_trouble trouble;
    kv_route_table *routing;
    atomic_ullong generation; /* of `routing` */
    kv_list calls;
    kv_list idle_lanes; /* the one used last comes first */
    kv_lane **lanes;    /* all, as they were made */
    uint32_t lane_count;
    uint32_t background_count;
    uint32_t blocking_count;
    uint32_t call_count;
    char failure[KV_MESSAGE_SIZE]; /* of the last connection that failed */
};

/* call.c */
kv_call *kv_call_open(kv_client *client, kv_call_kind kind, kv_request *request,
                      uint64_t timeout_ms);
void kv_call_close(kv_call *call);
/* Cut into parts and hand them to connections. */
void kv_call_start(kv_lane *lane, kv_call *call);
/* What became of a part as a whole. */
void kv_call_fail_part(kv_part *part, kv_status status);
/* Deadline or cancellation: settle what is open, and finish once nothing touches the caller's
 * memory. */
void kv_call_give_up(kv_call *call, kv_status status);
/* Take a part off its call and free it; the last one finishes the call. */
void kv_call_drop_part(kv_part *part);
void kv_call_control_reply(kv_part *part, int error, uint64_t size);
/* The part needs its channel no more; `known`: what became of the update. */
void kv_call_end_channel(kv_part *part, bool known);

/* placing.c */
/* Cut a call into parts, or make its control requests, and place them. -ENOMEM, -EAGAIN: of some
 * chain nobody serves what is to be flushed. */
int kv_call_place(kv_call *call);
/* Cut what is open of a part anew, by the newest routing info, and let go of the part. */
void kv_call_retry(kv_part *part);
/* Ask another member for what is open of a read in flight; its replies are forgotten. */
void kv_call_ask_elsewhere(kv_part *part);
/* Whether a part is a read of a chain that has more than one member. */
bool kv_call_has_choice(const kv_part *part);
/* The same part again, with the channel that it holds. */
void kv_call_repeat(kv_part *part);
/* One of these after a pause. */
void kv_call_pause(kv_part *part);
/* The same, or as soon as there is newer routing info. */
void kv_call_hold(kv_part *part);
/* Whether there is newer routing info than the part went by, and it may go by that. */
bool kv_call_is_behind(const kv_part *part);
/* Whether a part that waits may find a better place now; and to there. */
bool kv_call_may_move(const kv_part *part);
void kv_call_move(kv_part *part);
/* There is newer routing info: whatever waits for it goes on. */
void kv_lane_reroute(kv_lane *lane);

/* connection.c */
kv_connection *kv_connection_open(kv_lane *lane, uint32_t endpoint);
void kv_connection_close(kv_connection *connection);
/* Take over a part that waits. */
void kv_connection_add(kv_connection *connection, kv_part *part);
/* Do what can be done now: connect, send, receive. */
void kv_connection_work(kv_connection *connection);
/* Want that, soon. */
void kv_connection_touch(kv_connection *connection);
/* Give the socket up; parts come back when it is closed. `reason` may be NULL. */
void kv_connection_break(kv_connection *connection, int error, const char *reason);
/* Whether the reactor may still touch the caller's memory for this part: then breaking is what
 * helps. */
bool kv_connection_uses(const kv_connection *connection, const kv_part *part);
/* Nobody waits for a part any more that was sent: its replies are forgotten as they come. */
void kv_connection_forget(kv_connection *connection, kv_part *part);
/* A part that is SENDING without a touched byte, or that had its last reply, leaves; its channel is
 * the caller's to end. */
void kv_connection_remove(kv_connection *connection, kv_part *part);
void kv_connection_invariants(const kv_connection *connection);

/* connection_waiting.c */
/* Whether the node is there, and says that it wants nothing of us. */
static inline bool kv_connection_is_refusal(int error)
{
    return error == -EACCES || error == -EPROTONOSUPPORT;
}

/* An attempt to connect failed: who need not wait for the next one is told so. */
void kv_connection_refuse_waiting(kv_connection *connection, int error);
/* What waits goes to another member of its chain, or where newer routing info says, if it can. */
void kv_connection_move_waiting(kv_connection *connection);
/* There is newer routing info. */
void kv_connection_reroute(kv_connection *connection);

/* connection_silence.c: a part is about to be sent. */
void kv_connection_watch(kv_connection *connection, const kv_part *part);

/* connection_send.c. Each returns false when the connection broke. */
bool kv_connection_send(kv_connection *connection);
bool kv_connection_sent(kv_connection *connection, int64_t result);
/* connection_receive.c */
int kv_receiving_open(kv_receiving *receiving);
void kv_receiving_reset(kv_receiving *receiving);
void kv_receiving_close(kv_receiving *receiving);
bool kv_connection_receive(kv_connection *connection);
bool kv_connection_listens(const kv_connection *connection);
bool kv_connection_received(kv_connection *connection, int64_t result);
/* connection_message.c */
/* Head and columns of a message are complete, `bytes` being both; values may follow. */
bool kv_connection_message(kv_connection *connection, const uint8_t *bytes);
/* Where the next bytes of the current value belong (NULL: nowhere any more), and how many of them
 * are missing. */
uint8_t *kv_connection_value_target(const kv_connection *connection, uint32_t position,
                                    uint32_t *size);
/* So many bytes of values are where they belong. */
void kv_connection_value_arrived(kv_connection *connection, uint32_t size);
/* The last reply of a part came and was taken: drop it, or try again. */
void kv_connection_end(kv_connection *connection, kv_part *part);
/* All of the message was taken. */
bool kv_connection_message_end(kv_connection *connection);

/* lane.c */
int kv_lane_open(kv_client *client, bool background, kv_lane **lane);
/* On the lane's thread: close every connection and turn until they are closed. */
void kv_lane_close(kv_lane *lane);
/* Afterwards, when no thread can post to it any more. */
void kv_lane_free(kv_lane *lane);
void kv_lane_abandon(kv_lane *lane);
/* Run a call on the calling thread, until it is finished. */
void kv_lane_run(kv_lane *lane, kv_call *call);
/* Whatever connections want, and nothing on the stack waits for. */
void kv_lane_work(kv_lane *lane);
/* NULL: no memory. */
kv_connection *kv_lane_connection(kv_lane *lane, uint32_t endpoint);
/* Find calls that were cancelled, and give them up. */
void kv_lane_cancel(kv_lane *lane);
void *kv_lane_thread(void *lane);

static inline void kv_lane_count(atomic_ullong *counter, unsigned long long value)
{
    /* Relaxed, and no read-modify-write: one writer at a time, and readers want a number only. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value,
                          memory_order_relaxed);
}

/* pool.c. With the client's mutex held. */
/* A lane for a blocking caller, waiting for one until the call's deadline. -ETIMEDOUT, -ECANCELED,
 * -ENOMEM ... */
int kv_pool_take(kv_client *client, kv_call *call, kv_lane **lane);
void kv_pool_give(kv_client *client, kv_lane *lane);
/* The background lane with the least to do, started if need be. */
int kv_pool_background(kv_client *client, kv_lane **lane);

/* client.c: a call finished, on the lane's thread. */
void kv_client_call_finished(kv_call *call);
/* Run a call on the calling thread; it stays the caller's. 0, or it did not begin: -ESHUTDOWN,
 * -ENOTCONN. */
int kv_client_call_run(kv_client *client, kv_call *call);
void kv_client_set_failure(kv_client *client, const char *node, const char *reason);

/* routing.c */
static inline uint64_t kv_client_generation(const kv_client *client)
{
    /* Relaxed: who sees it changed takes the client's mutex to get the routing info itself. */
    return atomic_load_explicit(&client->generation, memory_order_relaxed);
}

/* The newest routing info, held. */
kv_route_table *kv_client_routing(kv_client *client);

#endif
