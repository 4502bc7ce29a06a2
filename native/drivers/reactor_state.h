/* What the front of the reactor (reactor.c, reactor_socket.c) and its drivers share.
 *
 *   turn:  sleep? ──► driver waits ──► clock ──► driver dispatches ──► connects ──► mail ──► timers
 *                                                                                    closings ◄──┘
 *
 *   socket:  out = 0 ◄──► RECEIVE, SEND, CONNECT out ──► closing ──► (kernel lets go) ──► closed
 *
 * Invariants
 *  1. A socket that is closing gets no callback but `closed`, which runs at the end of a turn: so
 *     what a driver holds of a socket stays valid during its dispatch.
 *  2. A bit of `out` is set from -EINPROGRESS until just before the callback, or the close.
 *  3. `mail` is NULL while the reactor is awake and has none, the address of `asleep` while it
 *     sleeps and has none, and otherwise the latest post; whoever replaces `asleep` wakes it. */
#ifndef KV_REACTOR_STATE_H
#define KV_REACTOR_STATE_H

#include "drivers/reactor.h"
#include "drivers/timer_wheel.h"

/* Of kv_socket.out. */
#define KV_SOCKET_RECEIVE 1u
#define KV_SOCKET_SEND 2u
#define KV_SOCKET_CONNECT 4u

#define KV_REACTOR_ACCEPT_BATCH 64u /* connections of one listener in one turn */
/* While the system has no descriptors or memory for another connection. */
#define KV_REACTOR_ACCEPT_PAUSE_NS 50000000u

/* What a driver does. Callbacks run in `dispatch` only. */
typedef struct kv_reactor_calls {
    const char *name;
    /* Close the driver's own descriptors and mappings; also in a forked child. The memory, which
     * begins with the kv_reactor, is freed by the front. */
    void (*close)(kv_reactor *reactor);
    /* Sleep until something happens or the time is up; 0: only look. */
    void (*wait)(kv_reactor *reactor, uint64_t timeout_ns);
    /* Run the callbacks of what has happened; returns how many. */
    uint32_t (*dispatch)(kv_reactor *reactor);
    /* Wait for a connect under way. 0 or a negative errno. */
    int (*connect)(kv_socket *socket);
    /* What the message says, at once or -EINPROGRESS. */
    int64_t (*receive)(kv_socket *socket);
    int64_t (*send)(kv_socket *socket);
    /* Forget the socket. True: the kernel has let go of everything; false: the driver will call
     * kv_reactor_socket_closed. The descriptor is closed right after this. */
    bool (*release)(kv_socket *socket);
    /* Begin to accept, or go on after a pause. 0 or a negative errno. */
    int (*listen)(kv_listener *listener);
    bool (*release_listener)(kv_listener *listener);
} kv_reactor_calls;

struct kv_reactor {
    const kv_reactor_calls *calls;
    uint64_t now_ns;
    int event_descriptor; /* written to wake a sleeper; -1: private, without mail */
    bool stopped;
    bool stopping; /* the stop mail is on its way */
    kv_mail *mail;
    kv_mail asleep; /* only its address is used */
    kv_mail stop;
    kv_list connected; /* sockets whose connect ended within the call */
    kv_list closed;
    kv_list closed_listeners;
    kv_timer_wheel wheel;
};

/* Every driver opens with the front's part set up. */
int kv_reactor_epoll_open(bool private, kv_reactor **reactor);
int kv_reactor_uring_open(kv_reactor **reactor);
/* Everything but the driver's own; 0 or a negative errno. */
int kv_reactor_init(kv_reactor *reactor, const kv_reactor_calls *calls, bool private);

/* The sockets' part of a turn, and whether it has work already. */
bool kv_reactor_socket_due(const kv_reactor *reactor);
uint32_t kv_reactor_socket_connects(kv_reactor *reactor);
uint32_t kv_reactor_socket_closings(kv_reactor *reactor);

/* The kernel has let go of a socket, or of a listener, that was released. */
void kv_reactor_socket_closed(kv_socket *socket);
void kv_reactor_listener_closed(kv_listener *listener);

/* How many bytes a message has room for. */
uint64_t kv_reactor_message_size(const struct msghdr *message);
/* One system call; -EAGAIN when it would block. */
int64_t kv_reactor_try_receive(kv_socket *socket, int flags);
int64_t kv_reactor_try_send(kv_socket *socket);
/* The outcome of a connect that was under way. */
int kv_reactor_connect_result(const kv_socket *socket);

/* Give connections away until there are none, the batch is full or the listener is closed; when
 * accepting has to go on later, a timer is set for it. Returns how many. */
uint32_t kv_reactor_accept(kv_listener *listener);
/* Set the timer that accepts again after `error` of accept4 (0: only for fairness); false when it
 * concerned one connection only, and accepting goes on. */
bool kv_reactor_accept_pauses(kv_listener *listener, int error);

#endif
