/* The reactor on epoll, edge-triggered: every receive and send tries the system call first and
 * waits only when that would block. A socket is registered when it has to wait for the first time,
 * and taken off when it is closed; in between it costs no epoll_ctl.
 *
 * `armed` of a socket says whether a try is worth a system call. A receive of fewer bytes than
 * asked for, and a send likewise, leave nothing to try before the next event (epoll(7)), unless an
 * event has told of an end or an error, which no later event would tell again.
 *
 * A private reactor makes one blocking receive in place of epoll_wait and a receive while a single
 * socket waits. */
#include "drivers/reactor_state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define NS_PER_MS 1000000u

/* Of kv_socket.armed; set bits are negative knowledge, so that a new socket tries everything. */
#define REGISTERED 1u
#define NOT_READABLE 2u
#define NOT_WRITABLE 4u
#define ENDED 8u    /* an end or an error came: a short receive is not the last one */
#define BLOCKING 16u /* the descriptor is in blocking mode */

/* What epoll_event.data points to: the lowest bits of a socket's address are free. */
#define IS_LISTENER 1u

typedef struct epoll_reactor {
    kv_reactor reactor;
    int descriptor;
    bool private;
    int count; /* events of the wait before this dispatch */
    kv_socket *blocked; /* whose receive the wait was, and what came of it */
    int64_t blocked_result;
    kv_list waiting; /* sockets with something out; kept by private reactors only */
    struct epoll_event events[EVENTS_MAX];
} epoll_reactor;

static epoll_reactor *epoll_of(kv_reactor *reactor)
{
    return KV_CONTAINER(reactor, epoll_reactor, reactor);
}

/* ---- what is out ---- */

static int watch(kv_socket *socket)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = socket};

    if ((socket->armed & REGISTERED) != 0)
        return 0;
    if (epoll_ctl(epoll_of(socket->reactor)->descriptor, EPOLL_CTL_ADD, socket->descriptor,
                  &event) != 0)
        return -errno;
    socket->armed |= REGISTERED;
    return 0;
}

/* From here on the socket waits: -EINPROGRESS, or what keeps it from being watched. */
static int wait_for(kv_socket *socket, uint32_t what)
{
    epoll_reactor *epoll = epoll_of(socket->reactor);

    /* What may become a blocking receive is not watched before it is clear that it does not. */
    if (!epoll->private || what != KV_SOCKET_RECEIVE || socket->out != 0) {
        int error = watch(socket);

        if (error != 0)
            return error;
    }
    if (epoll->private && socket->out == 0)
        kv_list_append(&epoll->waiting, &socket->link);
    socket->out |= what;
    return -EINPROGRESS;
}

static void wait_ends(kv_socket *socket, uint32_t what)
{
    assert((socket->out & what) != 0);
    socket->out &= ~what;
    if (socket->out == 0)
        kv_list_remove(&socket->link);
}

static int epoll_connect(kv_socket *socket)
{
    return wait_for(socket, KV_SOCKET_CONNECT);
}

/* What a receive says about the next one. */
static void learn_from_receive(kv_socket *socket, int64_t result)
{
    if (result == -EAGAIN)
        socket->armed = (socket->armed & ~ENDED) | NOT_READABLE;
    else if (result > 0 && (socket->armed & ENDED) == 0 &&
             (uint64_t)result < kv_reactor_message_size(&socket->receive_message))
        socket->armed |= NOT_READABLE;
}

static int64_t receive_now(kv_socket *socket)
{
    int64_t result = kv_reactor_try_receive(socket, MSG_DONTWAIT);

    learn_from_receive(socket, result);
    return result;
}

static int64_t send_now(kv_socket *socket)
{
    int64_t result = kv_reactor_try_send(socket);

    if (result == -EAGAIN ||
        (result > 0 && (uint64_t)result < kv_reactor_message_size(&socket->send_message)))
        socket->armed |= NOT_WRITABLE;
    return result;
}

static int64_t epoll_receive(kv_socket *socket)
{
    if ((socket->armed & NOT_READABLE) == 0) {
        int64_t result = receive_now(socket);

        if (result != -EAGAIN)
            return result;
    }
    return wait_for(socket, KV_SOCKET_RECEIVE);
}

static int64_t epoll_send(kv_socket *socket)
{
    if ((socket->armed & NOT_WRITABLE) == 0) {
        int64_t result = send_now(socket);

        if (result != -EAGAIN)
            return result;
    }
    return wait_for(socket, KV_SOCKET_SEND);
}

static bool epoll_release(kv_socket *socket)
{
    /* A forked child may hold the descriptor open, and events would go on coming. */
    if ((socket->armed & REGISTERED) != 0)
        (void)epoll_ctl(epoll_of(socket->reactor)->descriptor, EPOLL_CTL_DEL, socket->descriptor,
                        NULL);
    return true;
}

/* ---- events ---- */

static uint32_t tell_received(kv_socket *socket, int64_t result)
{
    wait_ends(socket, KV_SOCKET_RECEIVE);
    if (result > 0)
        socket->received_bytes += (uint64_t)result;
    socket->events->received(socket, result);
    return 1;
}

static uint32_t receive_ready(kv_socket *socket)
{
    int64_t result = receive_now(socket);

    return result == -EAGAIN ? 0 : tell_received(socket, result);
}

static uint32_t send_ready(kv_socket *socket)
{
    int64_t result = send_now(socket);

    if (result == -EAGAIN)
        return 0;
    wait_ends(socket, KV_SOCKET_SEND);
    if (result > 0)
        socket->sent_bytes += (uint64_t)result;
    socket->events->sent(socket, result);
    return 1;
}

static uint32_t connect_ready(kv_socket *socket)
{
    wait_ends(socket, KV_SOCKET_CONNECT);
    socket->events->connected(socket, kv_reactor_connect_result(socket));
    return 1;
}

static uint32_t socket_event(kv_socket *socket, uint32_t events)
{
    uint32_t count = 0;

    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        socket->armed |= ENDED;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        socket->armed &= ~NOT_READABLE;
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0)
        socket->armed &= ~NOT_WRITABLE;
    if (!socket->closing && (socket->out & KV_SOCKET_CONNECT) != 0)
        return (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0 ? connect_ready(socket) : 0;
    /* A callback may close the socket. */
    if (!socket->closing && (socket->out & KV_SOCKET_RECEIVE) != 0 &&
        (socket->armed & NOT_READABLE) == 0)
        count += receive_ready(socket);
    if (!socket->closing && (socket->out & KV_SOCKET_SEND) != 0 &&
        (socket->armed & NOT_WRITABLE) == 0)
        count += send_ready(socket);
    return count;
}

static uint32_t epoll_dispatch(kv_reactor *reactor)
{
    epoll_reactor *epoll = epoll_of(reactor);
    uint32_t count = 0;

    if (epoll->blocked != NULL) {
        kv_socket *socket = epoll->blocked;

        epoll->blocked = NULL;
        count += tell_received(socket, epoll->blocked_result);
    }
    for (int i = 0; i < epoll->count; i++) {
        uintptr_t pointer = (uintptr_t)epoll->events[i].data.ptr;

        if (pointer == 0) /* somebody woke us for mail */
            continue;
        if ((pointer & IS_LISTENER) == 0) {
            count += socket_event((kv_socket *)pointer, epoll->events[i].events);
        } else {
            kv_listener *listener = (kv_listener *)(pointer & ~(uintptr_t)IS_LISTENER);

            /* While it rests, the timer will look. */
            if (!listener->closing && !kv_timer_is_set(&listener->pause))
                count += kv_reactor_accept(listener);
        }
    }
    epoll->count = 0;
    return count;
}

/* ---- waiting ---- */

/* The one socket that waits, if it waits to receive and nothing else; else NULL. */
static kv_socket *sole_receiver(epoll_reactor *epoll)
{
    kv_list *first = epoll->waiting.next;
    kv_socket *socket;

    if (!epoll->private || first == &epoll->waiting || first->next != &epoll->waiting)
        return NULL;
    socket = KV_CONTAINER(first, kv_socket, link);
    return socket->out == KV_SOCKET_RECEIVE ? socket : NULL;
}

/* Tell the kernel how long a receive may block. Powers of two, rounded down, so that it has to be
 * told only when the time left is halved. One that ends early is a turn without callbacks. */
static int set_timeout(kv_socket *socket, uint64_t timeout_ns)
{
    const uint32_t most_ms = 1u << 14;
    uint64_t left_ms = timeout_ns / NS_PER_MS;
    uint32_t ms = most_ms;
    struct timeval time;

    while (ms > left_ms && ms > 1)
        ms /= 2;
    if (ms == socket->timeout_ms)
        return 0;
    time = (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    if (setsockopt(socket->descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)) != 0)
        return -errno;
    socket->timeout_ms = ms;
    return 0;
}

static int set_blocking(kv_socket *socket)
{
    int flags;

    if ((socket->armed & BLOCKING) != 0)
        return 0;
    flags = fcntl(socket->descriptor, F_GETFL);
    if (flags < 0 || fcntl(socket->descriptor, F_SETFL, flags & ~O_NONBLOCK) != 0)
        return -errno;
    socket->armed |= BLOCKING;
    return 0;
}

static void wait_blocking(epoll_reactor *epoll, kv_socket *socket, uint64_t timeout_ns)
{
    int64_t result = set_blocking(socket);

    if (result == 0)
        result = set_timeout(socket, timeout_ns);
    if (result == 0) {
        result = kv_reactor_try_receive(socket, 0);
        learn_from_receive(socket, result);
    }
    if (result == -EAGAIN || result == -EINTR)
        return;
    epoll->blocked = socket;
    epoll->blocked_result = result;
}

/* Watch every waiting socket of a private reactor. False: one cannot be, and will be told so; as it
 * was not watched before, a receive is what it has out. */
static bool watch_waiting(epoll_reactor *epoll)
{
    for (kv_list *link = epoll->waiting.next; link != &epoll->waiting; link = link->next) {
        kv_socket *socket = KV_CONTAINER(link, kv_socket, link);
        int error = watch(socket);

        if (error != 0) {
            epoll->blocked = socket;
            epoll->blocked_result = error;
            return false;
        }
    }
    return true;
}

static void epoll_wait_for(kv_reactor *reactor, uint64_t timeout_ns)
{
    epoll_reactor *epoll = epoll_of(reactor);
    kv_socket *sole = timeout_ns > 0 ? sole_receiver(epoll) : NULL;
    uint64_t timeout_ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0);

    if (sole != NULL) {
        wait_blocking(epoll, sole, timeout_ns);
        return;
    }
    if (!watch_waiting(epoll))
        return;
    if (timeout_ms > INT_MAX)
        timeout_ms = INT_MAX;
    if (timeout_ns == KV_REACTOR_FOREVER)
        epoll->count = epoll_wait(epoll->descriptor, epoll->events, EVENTS_MAX, -1);
    else
        epoll->count = epoll_wait(epoll->descriptor, epoll->events, EVENTS_MAX, (int)timeout_ms);
    assert(epoll->count >= 0 || errno == EINTR); /* a signal: a turn without callbacks */
}

/* ---- listeners and life ---- */

static int epoll_listen(kv_listener *listener)
{
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLET,
        .data.ptr = (void *)((uintptr_t)listener | IS_LISTENER),
    };

    if (listener->out != 0) {
        (void)kv_reactor_accept(listener);
        return 0;
    }
    if (epoll_ctl(epoll_of(listener->reactor)->descriptor, EPOLL_CTL_ADD, listener->descriptor,
                  &event) != 0)
        return -errno;
    listener->out = 1; /* watched; what waits already is an event too */
    return 0;
}

static bool epoll_release_listener(kv_listener *listener)
{
    if (listener->out != 0)
        (void)epoll_ctl(epoll_of(listener->reactor)->descriptor, EPOLL_CTL_DEL,
                        listener->descriptor, NULL);
    return true;
}

static void epoll_close(kv_reactor *reactor)
{
    close(epoll_of(reactor)->descriptor);
}

static const kv_reactor_calls epoll_calls = {
    .name = "epoll",
    .close = epoll_close,
    .wait = epoll_wait_for,
    .dispatch = epoll_dispatch,
    .connect = epoll_connect,
    .receive = epoll_receive,
    .send = epoll_send,
    .release = epoll_release,
    .listen = epoll_listen,
    .release_listener = epoll_release_listener,
};

/* Mail is watched for its edges: each write is an event, and the counter is never read. */
static int watch_mail(const epoll_reactor *epoll)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = NULL};
    int mail = epoll->reactor.event_descriptor;

    if (mail >= 0 && epoll_ctl(epoll->descriptor, EPOLL_CTL_ADD, mail, &event) != 0)
        return -errno;
    return 0;
}

int kv_reactor_epoll_open(bool private, kv_reactor **reactor)
{
    epoll_reactor *epoll = calloc(1, sizeof(*epoll));
    int error;

    _Static_assert(offsetof(epoll_reactor, reactor) == 0, "the front frees it");
    if (epoll == NULL)
        return -ENOMEM;
    epoll->private = private;
    kv_list_init(&epoll->waiting);
    epoll->descriptor = epoll_create1(EPOLL_CLOEXEC);
    if (epoll->descriptor < 0) {
        error = -errno;
        goto fail_create;
    }
    error = kv_reactor_init(&epoll->reactor, &epoll_calls, private);
    if (error != 0)
        goto fail_init;
    error = watch_mail(epoll);
    if (error != 0)
        goto fail_watch;
    *reactor = &epoll->reactor;
    return 0;

fail_watch:
    close(epoll->reactor.event_descriptor);
fail_init:
    close(epoll->descriptor);
fail_create:
    free(epoll);
    return error;
}
