/* Sockets and listeners as their owners see them: checks the calls, makes the system calls that all
 * drivers make alike, and defers what must not be told within the call. See reactor_state.h. */
#include "drivers/reactor_state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CALL_FLAGS (MSG_DONTWAIT | MSG_NOSIGNAL)

/* ---- one system call ---- */

uint64_t kv_reactor_message_size(const struct msghdr *message)
{
    uint64_t size = 0;

    for (size_t i = 0; i < message->msg_iovlen; i++)
        size += message->msg_iov[i].iov_len;
    return size;
}

/* A single range goes by the simpler call, which copies no message header. */
int64_t kv_reactor_try_receive(kv_socket *socket, int flags)
{
    struct msghdr *message = &socket->receive_message;
    ssize_t result;

    do
        result = message->msg_iovlen == 1
                     ? recv(socket->descriptor, message->msg_iov->iov_base,
                            message->msg_iov->iov_len, flags)
                     : recvmsg(socket->descriptor, message, flags);
    while (result < 0 && errno == EINTR && (flags & MSG_DONTWAIT) != 0);
    return result < 0 ? -errno : result;
}

int64_t kv_reactor_try_send(kv_socket *socket)
{
    const struct msghdr *message = &socket->send_message;
    ssize_t result;

    do
        result = message->msg_iovlen == 1
                     ? send(socket->descriptor, message->msg_iov->iov_base,
                            message->msg_iov->iov_len, CALL_FLAGS)
                     : sendmsg(socket->descriptor, message, CALL_FLAGS);
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : result;
}

int kv_reactor_connect_result(const kv_socket *socket)
{
    int error = 0;
    socklen_t size = sizeof(error);

    if (getsockopt(socket->descriptor, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return -errno;
    return -error;
}

/* ---- sockets ---- */

void kv_socket_open(kv_socket *socket, kv_reactor *reactor, int descriptor,
                    const kv_socket_events *events)
{
    assert(descriptor >= 0);
    assert(events->closed != NULL);
    memset(socket, 0, sizeof(*socket));
    socket->reactor = reactor;
    socket->events = events;
    socket->descriptor = descriptor;
    kv_list_init(&socket->link);
}

static int connect_start(kv_socket *socket, const struct sockaddr *address, socklen_t address_size)
{
    int flags = fcntl(socket->descriptor, F_GETFL);

    if (flags < 0 || fcntl(socket->descriptor, F_SETFL, flags | O_NONBLOCK) != 0)
        return -errno;
    if (connect(socket->descriptor, address, address_size) == 0)
        return 0;
    /* Interrupted, a connect goes on by itself. */
    if (errno != EINPROGRESS && errno != EINTR)
        return -errno;
    return socket->reactor->calls->connect(socket);
}

void kv_socket_connect(kv_socket *socket, const struct sockaddr *address, socklen_t address_size)
{
    int result;

    assert(!socket->closing);
    assert(socket->out == 0);
    assert(socket->events->connected != NULL);
    result = connect_start(socket, address, address_size);
    if (result == -EINPROGRESS)
        return;
    socket->out = KV_SOCKET_CONNECT;
    socket->connect_result = result;
    kv_list_append(&socket->reactor->connected, &socket->link);
}

static void message_set(struct msghdr *message, struct iovec *ranges, uint32_t count)
{
    assert(count > 0);
    assert(count <= KV_REACTOR_IOVEC_MAX);
    message->msg_iov = ranges;
    message->msg_iovlen = count;
}

int64_t kv_socket_receive(kv_socket *socket, struct iovec *ranges, uint32_t count)
{
    int64_t result;

    assert(!socket->closing);
    assert((socket->out & (KV_SOCKET_RECEIVE | KV_SOCKET_CONNECT)) == 0);
    message_set(&socket->receive_message, ranges, count);
    result = socket->reactor->calls->receive(socket);
    if (result > 0)
        socket->received_bytes += (uint64_t)result;
    return result;
}

int64_t kv_socket_send(kv_socket *socket, struct iovec *ranges, uint32_t count)
{
    int64_t result;

    assert(!socket->closing);
    assert((socket->out & (KV_SOCKET_SEND | KV_SOCKET_CONNECT)) == 0);
    message_set(&socket->send_message, ranges, count);
    result = socket->reactor->calls->send(socket);
    if (result > 0)
        socket->sent_bytes += (uint64_t)result;
    return result;
}

void kv_socket_close(kv_socket *socket)
{
    bool released;

    assert(!socket->closing);
    socket->closing = true;
    kv_list_remove(&socket->link); /* a connect that ended and was not told */
    released = socket->reactor->calls->release(socket);
    /* The other end learns of it even if a forked child still holds the descriptor. */
    (void)shutdown(socket->descriptor, SHUT_RDWR);
    close(socket->descriptor);
    socket->descriptor = -1;
    if (released)
        kv_reactor_socket_closed(socket);
}

void kv_reactor_socket_closed(kv_socket *socket)
{
    assert(socket->closing);
    socket->out = 0;
    kv_list_append(&socket->reactor->closed, &socket->link);
}

/* ---- listeners ---- */

static void listen_or_pause(kv_listener *listener)
{
    int error = listener->reactor->calls->listen(listener);

    if (error != 0)
        (void)kv_reactor_accept_pauses(listener, error);
}

static void pause_expired(kv_timer *timer)
{
    kv_listener *listener = KV_CONTAINER(timer, kv_listener, pause);

    listen_or_pause(listener);
}

bool kv_reactor_accept_pauses(kv_listener *listener, int error)
{
    uint64_t now_ns = listener->reactor->now_ns;

    switch (error) {
    case 0:
        kv_timer_set(listener->reactor, &listener->pause, now_ns);
        return true;
    /* Errors of a connection that broke before it was accepted; accept(2). */
    case -EINTR:
    case -ECONNABORTED:
    case -EPERM:
    case -EPROTO:
    case -ENETDOWN:
    case -ENOPROTOOPT:
    case -EHOSTDOWN:
    case -ENONET:
    case -EHOSTUNREACH:
    case -EOPNOTSUPP:
    case -ENETUNREACH:
    case -ETIMEDOUT:
        return false;
    default: /* -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM, and what nobody foresaw */
        kv_timer_set(listener->reactor, &listener->pause, now_ns + KV_REACTOR_ACCEPT_PAUSE_NS);
        return true;
    }
}

uint32_t kv_reactor_accept(kv_listener *listener)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < KV_REACTOR_ACCEPT_BATCH; i++) {
        int descriptor;

        listener->address_size = sizeof(listener->address);
        descriptor = accept4(listener->descriptor, (struct sockaddr *)&listener->address,
                             &listener->address_size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0) {
            listener->accepted(listener, descriptor, &listener->address);
            count++;
        } else if (errno == EAGAIN) {
            return count;
        } else if (kv_reactor_accept_pauses(listener, -errno)) {
            return count;
        }
        if (listener->closing)
            return count;
    }
    (void)kv_reactor_accept_pauses(listener, 0);
    return count;
}

void kv_listener_open(kv_listener *listener, kv_reactor *reactor, int descriptor)
{
    int flags = fcntl(descriptor, F_GETFL);

    assert(flags >= 0);
    assert(listener->accepted != NULL);
    assert(listener->closed != NULL);
    /* A connection may be gone between the event and the call, which must not block then. */
    (void)fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
    listener->reactor = reactor;
    listener->descriptor = descriptor;
    listener->out = 0;
    listener->closing = false;
    listener->pause = (kv_timer){.expire = pause_expired};
    kv_list_init(&listener->link);
    listen_or_pause(listener);
}

void kv_listener_close(kv_listener *listener)
{
    bool released;

    assert(!listener->closing);
    listener->closing = true;
    kv_timer_stop(listener->reactor, &listener->pause);
    released = listener->reactor->calls->release_listener(listener);
    close(listener->descriptor);
    listener->descriptor = -1;
    if (released)
        kv_reactor_listener_closed(listener);
}

void kv_reactor_listener_closed(kv_listener *listener)
{
    assert(listener->closing);
    kv_list_append(&listener->reactor->closed_listeners, &listener->link);
}

/* ---- their part of a turn ---- */

bool kv_reactor_socket_due(const kv_reactor *reactor)
{
    return !kv_list_empty(&reactor->connected) || !kv_list_empty(&reactor->closed) ||
           !kv_list_empty(&reactor->closed_listeners);
}

/* What the callbacks append waits for the next turn. */
static void take_all(kv_list *from, kv_list *to)
{
    kv_list *link;

    kv_list_init(to);
    while ((link = kv_list_pop(from)) != NULL)
        kv_list_append(to, link);
}

uint32_t kv_reactor_socket_connects(kv_reactor *reactor)
{
    uint32_t count = 0;
    kv_list ended;
    kv_list *link;

    take_all(&reactor->connected, &ended);
    while ((link = kv_list_pop(&ended)) != NULL) {
        kv_socket *socket = KV_CONTAINER(link, kv_socket, link);

        socket->out = 0;
        socket->events->connected(socket, socket->connect_result);
        count++;
    }
    return count;
}

uint32_t kv_reactor_socket_closings(kv_reactor *reactor)
{
    uint32_t count = 0;
    kv_list sockets;
    kv_list listeners;
    kv_list *link;

    take_all(&reactor->closed, &sockets);
    take_all(&reactor->closed_listeners, &listeners);
    while ((link = kv_list_pop(&sockets)) != NULL) {
        kv_socket *socket = KV_CONTAINER(link, kv_socket, link);

        socket->events->closed(socket);
        count++;
    }
    while ((link = kv_list_pop(&listeners)) != NULL) {
        kv_listener *listener = KV_CONTAINER(link, kv_listener, link);

        listener->closed(listener);
        count++;
    }
    return count;
}
