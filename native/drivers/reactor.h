/* The reactor port: one event loop of one thread, which owns sockets and timers, with a mailbox for
 * everybody else. Two drivers stand behind it: io_uring and epoll, chosen when it is opened.
 *
 * Everything but kv_reactor_post and kv_reactor_stop is for the thread that turns the reactor.
 * Callbacks run inside kv_reactor_turn, never inside the call that asked for them; they may call
 * anything here, also close the socket whose callback runs. */
#ifndef KV_REACTOR_H
#define KV_REACTOR_H

#include "bytes/list.h"
#include "kvcore.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define KV_REACTOR_IOVEC_MAX 256u /* ranges of one receive or send */
#define KV_REACTOR_FOREVER UINT64_MAX

typedef struct kv_reactor kv_reactor;

/* A message to a reactor. Its memory is the reactor's from post until `deliver` begins. */
typedef struct kv_mail {
    struct kv_mail *next;
    void (*deliver)(struct kv_mail *mail);
} kv_mail;

/* Intrusive; in use from kv_timer_set until it expires or kv_timer_stop. Zeroed before its first
 * use. */
typedef struct kv_timer {
    kv_list link;
    uint64_t due_ns;
    void (*expire)(struct kv_timer *timer);
} kv_timer;

typedef struct kv_socket kv_socket;

/* What the owner of a socket hears. Any but `closed` may be NULL where it cannot come. */
typedef struct kv_socket_events {
    /* After kv_socket_connect: 0 or a negative errno. */
    void (*connected)(kv_socket *socket, int error);
    /* Bytes, 0: the other end closed, or a negative errno. */
    void (*received)(kv_socket *socket, int64_t result);
    /* Bytes, possibly fewer than asked for, or a negative errno. */
    void (*sent)(kv_socket *socket, int64_t result);
    /* After kv_socket_close: its memory is the owner's again. */
    void (*closed)(kv_socket *socket);
} kv_socket_events;

/* Embedded in its owner. A socket has at most one receive and one send out at a time. */
struct kv_socket {
    kv_reactor *reactor;
    const kv_socket_events *events;
    int descriptor;
    uint64_t received_bytes; /* totals, for the owner's statistics */
    uint64_t sent_bytes;
    struct msghdr receive_message; /* the driver's, as everything below */
    struct msghdr send_message;
    kv_list link;
    uint32_t armed;
    uint32_t out;
    uint32_t timeout_ms; /* of a blocking receive, as the kernel was told */
    int connect_result;
    bool closing;
};

/* A listening socket: each connection that comes in is given away as a descriptor (non-blocking,
 * close-on-exec). Errors of accepting are not told: those of one connection are passed over, and
 * while the process has no descriptors or memory left, accepting rests for a moment at a time. */
typedef struct kv_listener {
    kv_reactor *reactor;
    int descriptor;
    void (*accepted)(struct kv_listener *listener, int descriptor,
                     const struct sockaddr_storage *address);
    void (*closed)(struct kv_listener *listener);
    kv_list link; /* the driver's, as everything below */
    kv_timer pause;
    struct sockaddr_storage address;
    socklen_t address_size;
    uint32_t out;
    bool closing;
} kv_listener;

/* `driver` as in kv_reactor_driver; -EINVAL if it is none. -ENOSYS, -EPERM or -EACCES: io_uring was
 * asked for and is not to be had. With io_uring one and the same thread makes every call of
 * kv_reactor_turn. */
int kv_reactor_open(uint32_t driver, kv_reactor **reactor);
/* A reactor that neither receives mail nor is stopped by others, for one caller that turns it until
 * its own work is done. It may go from thread to thread between turns. While exactly one socket
 * waits, and only to receive, the turn is that one blocking receive and no other system call; from
 * then on the descriptor is in blocking mode. */
int kv_reactor_open_private(kv_reactor **reactor);
/* No socket, listener or timer is in use any more, and no call of another thread is in progress.
 * Mail that was not delivered is dropped. */
void kv_reactor_close(kv_reactor *reactor);
/* In a forked child, instead of close: close the inherited descriptors of the reactor itself, leave
 * everything else alone, its memory too. */
void kv_reactor_abandon(kv_reactor *reactor);
/* "io_uring" or "epoll". */
const char *kv_reactor_name(const kv_reactor *reactor);

/* Wait until something happens or the clock reaches `deadline_ns` (0: do not wait), and run what is
 * due. Returns how many callbacks ran; that may be none before the deadline, after a signal for
 * instance. */
uint32_t kv_reactor_turn(kv_reactor *reactor, uint64_t deadline_ns);
/* Turn until kv_reactor_stop. */
void kv_reactor_run(kv_reactor *reactor);
/* From any thread. Without kv_reactor_run under way, the next one returns at once. */
void kv_reactor_stop(kv_reactor *reactor);
/* From any thread: `deliver` runs on the reactor's thread, in the order of the posts of one thread.
 * Wakes it when it sleeps. */
void kv_reactor_post(kv_reactor *reactor, kv_mail *mail);
/* CLOCK_MONOTONIC as of the beginning of this turn's callbacks; between turns, of the last's. */
uint64_t kv_reactor_now_ns(const kv_reactor *reactor);

/* Set, or set anew. Resolution about 1 ms; never early; in the order of their milliseconds, and
 * within one in the order in which they were set. */
void kv_timer_set(kv_reactor *reactor, kv_timer *timer, uint64_t due_ns);
void kv_timer_stop(kv_reactor *reactor, kv_timer *timer);
bool kv_timer_is_set(const kv_timer *timer);

/* Take over a connected stream, or a fresh descriptor that kv_socket_connect is called on. */
void kv_socket_open(kv_socket *socket, kv_reactor *reactor, int descriptor,
                    const kv_socket_events *events);
/* `connected` will be called. Nothing is sent or received before that. */
void kv_socket_connect(kv_socket *socket, const struct sockaddr *address, socklen_t address_size);
/* Ask for bytes into up to KV_REACTOR_IOVEC_MAX ranges, not all of them empty. Returns bytes, 0
 * (the other end closed) or a negative errno when that is known at once, and then `received` is not
 * called. -EINPROGRESS: it will be, and until then array and ranges stay valid and untouched. */
int64_t kv_socket_receive(kv_socket *socket, struct iovec *ranges, uint32_t count);
/* The same for sending. Never raises SIGPIPE. */
int64_t kv_socket_send(kv_socket *socket, struct iovec *ranges, uint32_t count);
/* Shut down and close the descriptor; what is out is cancelled without a callback, and the ranges
 * are the owner's again when `closed` is called, always later. */
void kv_socket_close(kv_socket *socket);

/* `accepted` and `closed` are set by the owner, everything else here. */
void kv_listener_open(kv_listener *listener, kv_reactor *reactor, int descriptor);
/* As kv_socket_close. */
void kv_listener_close(kv_listener *listener);

#endif
