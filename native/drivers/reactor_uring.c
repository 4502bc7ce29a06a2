/* The reactor on io_uring: one io_uring_enter a turn hands over every receive that has to wait and
 * sleeps until something is complete. Receives and sends try the system call first, as on epoll: a
 * send that goes through the ring would end the sleep that it was handed over with.
 *
 *   out, not armed ──► armed (in the kernel) ──► completion ──► callback
 *   (on `wanting`)       │
 *                        └─ closing ──► cancelled ──► completion ──► closed
 *
 * `armed` of a socket has the bits of `out` whose operation the kernel has, and two hints. A socket
 * is on `wanting` while the next turn has to tell the kernel something about it, and its link is
 * free for that, as no other list holds it meanwhile. Entries are filled only just before they are
 * handed over, so that they never speak of a socket that is gone. */
#include "drivers/reactor_state.h"
#include "drivers/uring.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>

#define ENTRIES 512u
/* While the kernel has no memory for an entry. */
#define SUBMIT_AGAIN_NS 1000000u

/* Of kv_socket.armed, beside the bits of `out`. */
#define IN_KERNEL (KV_SOCKET_RECEIVE | KV_SOCKET_SEND | KV_SOCKET_CONNECT)
#define NOT_READABLE 8u
#define NOT_WRITABLE 16u

/* Of kv_listener.out. */
#define LISTENING 1u /* its poll is in the kernel */

/* user_data: an address, and in its lowest three bits what it is of: one of the bits of `out` of a
 * socket, or one of these. */
#define OF_NOBODY 0u /* a cancel */
#define OF_LISTENER 3u
#define OF_MAIL 5u
#define OF_MASK 7u

_Static_assert(_Alignof(kv_socket) > OF_MASK && _Alignof(kv_listener) > OF_MASK, "three bits");

typedef struct uring_reactor {
    kv_reactor reactor;
    kv_uring ring;
    bool mail_polled;
    kv_list wanting; /* sockets */
    kv_list wanting_listeners;
} uring_reactor;

static uring_reactor *uring_of(kv_reactor *reactor)
{
    return KV_CONTAINER(reactor, uring_reactor, reactor);
}

/* ---- what is out ---- */

static void want(kv_socket *socket)
{
    if (kv_list_empty(&socket->link))
        kv_list_append(&uring_of(socket->reactor)->wanting, &socket->link);
}

static int64_t wait_for(kv_socket *socket, uint32_t what)
{
    socket->out |= what;
    want(socket);
    return -EINPROGRESS;
}

static int uring_connect(kv_socket *socket)
{
    return (int)wait_for(socket, KV_SOCKET_CONNECT);
}

/* A short receive leaves nothing to try, but maybe an end; the kernel looks before it waits. */
static int64_t uring_receive(kv_socket *socket)
{
    if ((socket->armed & NOT_READABLE) == 0) {
        int64_t result = kv_reactor_try_receive(socket, MSG_DONTWAIT);

        if (result != -EAGAIN) {
            if (result > 0 && (uint64_t)result < kv_reactor_message_size(&socket->receive_message))
                socket->armed |= NOT_READABLE;
            return result;
        }
    }
    return wait_for(socket, KV_SOCKET_RECEIVE);
}

static int64_t uring_send(kv_socket *socket)
{
    if ((socket->armed & NOT_WRITABLE) == 0) {
        int64_t result = kv_reactor_try_send(socket);

        if (result != -EAGAIN) {
            if (result > 0 && (uint64_t)result < kv_reactor_message_size(&socket->send_message))
                socket->armed |= NOT_WRITABLE;
            return result;
        }
    }
    return wait_for(socket, KV_SOCKET_SEND);
}

static bool uring_release(kv_socket *socket)
{
    socket->out = 0;
    if ((socket->armed & IN_KERNEL) == 0)
        return true;
    want(socket); /* its cancels */
    return false;
}

/* ---- entries ---- */

static struct io_uring_sqe *fill(uring_reactor *uring, uint8_t operation, int descriptor,
                                 const void *of, uint32_t what)
{
    struct io_uring_sqe *sqe = kv_uring_fill(&uring->ring);

    sqe->opcode = operation;
    sqe->fd = descriptor;
    sqe->user_data = (uintptr_t)of | what;
    return sqe;
}

/* The simpler operation for a single range, as in reactor_socket.c. It is waited for first: that it
 * would block was tried, or is known. */
static void fill_transfer(uring_reactor *uring, kv_socket *socket, uint32_t what)
{
    bool receive = what == KV_SOCKET_RECEIVE;
    struct msghdr *message = receive ? &socket->receive_message : &socket->send_message;
    uint8_t several = receive ? IORING_OP_RECVMSG : IORING_OP_SENDMSG;
    uint8_t single = receive ? IORING_OP_RECV : IORING_OP_SEND;
    struct io_uring_sqe *sqe = fill(uring, message->msg_iovlen == 1 ? single : several,
                                    socket->descriptor, socket, what);

    sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
    sqe->msg_flags = MSG_NOSIGNAL;
    if (message->msg_iovlen == 1) {
        size_t size = message->msg_iov->iov_len;

        sqe->addr = (uintptr_t)message->msg_iov->iov_base;
        sqe->len = size > INT32_MAX ? INT32_MAX : (uint32_t)size;
    } else {
        sqe->addr = (uintptr_t)message;
        sqe->len = 1;
    }
}

static void fill_poll(uring_reactor *uring, int descriptor, const void *of, uint32_t what,
                      uint16_t events)
{
    struct io_uring_sqe *sqe = fill(uring, IORING_OP_POLL_ADD, descriptor, of, what);

    sqe->poll32_events = events;
    /* One for each connect; listeners and mail are told of every edge. */
    if (what != KV_SOCKET_CONNECT)
        sqe->len = IORING_POLL_ADD_MULTI;
}

static void fill_cancel(uring_reactor *uring, const void *of, uint32_t what)
{
    fill(uring, IORING_OP_ASYNC_CANCEL, -1, NULL, OF_NOBODY)->addr = (uintptr_t)of | what;
}

/* Tell the kernel one thing about a socket; false when there was none left to tell. */
static bool fill_socket(uring_reactor *uring, kv_socket *socket)
{
    uint32_t wanted = socket->closing ? socket->armed & IN_KERNEL & ~socket->out
                                      : socket->out & ~socket->armed;
    uint32_t what = wanted & -wanted;

    if (what == 0)
        return false;
    if (socket->closing) {
        /* From here on `out` says what is being cancelled. */
        socket->out |= what;
        fill_cancel(uring, socket, what);
        return true;
    }
    socket->armed |= what;
    if (what == KV_SOCKET_CONNECT)
        fill_poll(uring, socket->descriptor, socket, what, POLLOUT);
    else
        fill_transfer(uring, socket, what);
    return true;
}

static void fill_listener(uring_reactor *uring, kv_listener *listener)
{
    if (listener->closing) {
        fill_cancel(uring, listener, OF_LISTENER);
    } else {
        listener->out |= LISTENING;
        fill_poll(uring, listener->descriptor, listener, OF_LISTENER, POLLIN);
    }
}

/* Room for an entry, made by handing over the others if need be. */
static bool make_room(uring_reactor *uring)
{
    if (!kv_uring_has_room(&uring->ring))
        (void)kv_uring_enter(&uring->ring, 0);
    return kv_uring_has_room(&uring->ring);
}

/* Fill what is wanted; false: there was no room for all. */
static bool fill_wanted(uring_reactor *uring)
{
    while (!kv_list_empty(&uring->wanting)) {
        kv_socket *socket = KV_CONTAINER(uring->wanting.next, kv_socket, link);

        if (!make_room(uring))
            return false;
        if (!fill_socket(uring, socket))
            kv_list_remove(&socket->link);
    }
    while (!kv_list_empty(&uring->wanting_listeners)) {
        if (!make_room(uring))
            return false;
        fill_listener(uring, KV_CONTAINER(kv_list_pop(&uring->wanting_listeners), kv_listener,
                                          link));
    }
    if (!uring->mail_polled) {
        if (!make_room(uring))
            return false;
        uring->mail_polled = true;
        fill_poll(uring, uring->reactor.event_descriptor, NULL, OF_MAIL, POLLIN);
    }
    return true;
}

static void uring_wait_for(kv_reactor *reactor, uint64_t timeout_ns)
{
    static const struct timespec pause = {.tv_nsec = SUBMIT_AGAIN_NS};
    uring_reactor *uring = uring_of(reactor);
    int error;

    if (!fill_wanted(uring) && timeout_ns > SUBMIT_AGAIN_NS)
        timeout_ns = SUBMIT_AGAIN_NS;
    error = kv_uring_enter(&uring->ring, timeout_ns);
    if (error == 0 || error == -ETIME || error == -EINTR)
        return;
    /* The kernel lacks memory, and takes the entries another time. */
    assert(error == -EAGAIN || error == -EBUSY || error == -ENOMEM);
    if (timeout_ns > 0)
        (void)nanosleep(&pause, NULL);
}

/* ---- completions ---- */

static uint32_t told_transfer(kv_socket *socket, uint32_t what, int32_t result, uint32_t flags)
{
    bool receive = what == KV_SOCKET_RECEIVE;
    struct msghdr *message = receive ? &socket->receive_message : &socket->send_message;
    uint32_t nothing = receive ? NOT_READABLE : NOT_WRITABLE;

    if (result == -EAGAIN || result == -EINTR) {
        want(socket);
        return 0;
    }
    socket->out &= ~what;
    socket->armed &= ~nothing;
    if (result > 0 && (uint64_t)result < kv_reactor_message_size(message) &&
        (flags & IORING_CQE_F_SOCK_NONEMPTY) == 0)
        socket->armed |= nothing;
    if (receive) {
        socket->received_bytes += result > 0 ? (uint32_t)result : 0;
        socket->events->received(socket, result);
    } else {
        socket->sent_bytes += result > 0 ? (uint32_t)result : 0;
        socket->events->sent(socket, result);
    }
    return 1;
}

static uint32_t socket_complete(kv_socket *socket, uint32_t what, const struct io_uring_cqe *entry)
{
    assert((socket->armed & what) != 0);
    socket->armed &= ~what;
    if (socket->closing) {
        if ((socket->armed & IN_KERNEL) == 0) {
            kv_list_remove(&socket->link);
            kv_reactor_socket_closed(socket);
        }
        return 0;
    }
    assert((socket->out & what) != 0);
    if (what != KV_SOCKET_CONNECT)
        return told_transfer(socket, what, entry->res, entry->flags);
    socket->out &= ~what;
    socket->events->connected(socket,
                              entry->res < 0 ? entry->res : kv_reactor_connect_result(socket));
    return 1;
}

static uint32_t listener_complete(kv_listener *listener, const struct io_uring_cqe *entry)
{
    uring_reactor *uring = uring_of(listener->reactor);

    if ((entry->flags & IORING_CQE_F_MORE) == 0)
        listener->out &= ~LISTENING;
    if (listener->closing) {
        if ((listener->out & LISTENING) == 0) {
            kv_list_remove(&listener->link);
            kv_reactor_listener_closed(listener);
        }
        return 0;
    }
    /* While it rests, the timer will look. */
    if (kv_timer_is_set(&listener->pause))
        return 0;
    if (entry->res < 0) {
        (void)kv_reactor_accept_pauses(listener, entry->res == -ECANCELED ? -ENOMEM : entry->res);
        return 0;
    }
    if ((listener->out & LISTENING) == 0)
        kv_list_append(&uring->wanting_listeners, &listener->link);
    return kv_reactor_accept(listener);
}

static uint32_t uring_dispatch(kv_reactor *reactor)
{
    uring_reactor *uring = uring_of(reactor);
    struct io_uring_cqe entry;
    uint32_t count = 0;

    while (kv_uring_pop_entry(&uring->ring, &entry)) {
        void *of = (void *)(uintptr_t)(entry.user_data & ~(uint64_t)OF_MASK);
        uint32_t what = (uint32_t)entry.user_data & OF_MASK;

        if (what == OF_LISTENER)
            count += listener_complete(of, &entry);
        else if (what == OF_MAIL)
            uring->mail_polled = (entry.flags & IORING_CQE_F_MORE) != 0;
        else if (what != OF_NOBODY)
            count += socket_complete(of, what, &entry);
    }
    return count;
}

/* ---- listeners and life ---- */

static int uring_listen(kv_listener *listener)
{
    uring_reactor *uring = uring_of(listener->reactor);

    if ((listener->out & LISTENING) != 0)
        (void)kv_reactor_accept(listener);
    else if (kv_list_empty(&listener->link))
        kv_list_append(&uring->wanting_listeners, &listener->link);
    return 0;
}

static bool uring_release_listener(kv_listener *listener)
{
    kv_list_remove(&listener->link);
    if ((listener->out & LISTENING) == 0)
        return true;
    kv_list_append(&uring_of(listener->reactor)->wanting_listeners, &listener->link);
    return false;
}

static void uring_close(kv_reactor *reactor)
{
    kv_uring_close(&uring_of(reactor)->ring);
}

static const kv_reactor_calls uring_calls = {
    .name = "io_uring",
    .close = uring_close,
    .wait = uring_wait_for,
    .dispatch = uring_dispatch,
    .connect = uring_connect,
    .receive = uring_receive,
    .send = uring_send,
    .release = uring_release,
    .listen = uring_listen,
    .release_listener = uring_release_listener,
};

int kv_reactor_uring_open(kv_reactor **reactor)
{
    uring_reactor *uring = calloc(1, sizeof(*uring));
    int error;

    _Static_assert(offsetof(uring_reactor, reactor) == 0, "the front frees it");
    if (uring == NULL)
        return -ENOMEM;
    kv_list_init(&uring->wanting);
    kv_list_init(&uring->wanting_listeners);
    error = kv_uring_open_loop(ENTRIES, &uring->ring);
    if (error != 0)
        goto fail_ring;
    error = kv_reactor_init(&uring->reactor, &uring_calls, false);
    if (error != 0)
        goto fail_init;
    *reactor = &uring->reactor;
    return 0;

fail_init:
    kv_uring_close(&uring->ring);
fail_ring:
    free(uring);
    return error;
}
