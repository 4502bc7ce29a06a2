/* The client's whole surroundings in fuzz_client: a clock, and a reactor driver whose sockets end in
 * buffers of this process. The linker puts them in place of the real ones (--wrap, CMakeLists.txt),
 * so that everything of the client above the driver is production code, in one thread.
 *
 *   client ──kv_socket_send──► link.inbox ──► nodes (client_nodes.h)
 *          ◄─────received───── link.outbox ◄──┘
 *
 * Time passes only when nothing is to be told and the script has nothing to say: see `idle`. */
#ifndef CLIENT_NETWORK_H
#define CLIENT_NETWORK_H

#include "drivers/reactor_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define LINKS_MAX 4u
#define BUFFER_SIZE (1u << 20)
#define PIECES_MAX 64u
#define NS_PER_S 1000000000u

/* One end of a connection. Bytes beyond a full buffer are lost, and the connection with them. */
typedef struct buffer {
    uint8_t *bytes;
    size_t begin, end;
} buffer;

typedef struct link {
    kv_socket *socket; /* NULL: free */
    uint32_t node;
    uint32_t port;
    bool gone;         /* the node closed it, with `error` */
    int error;
    buffer inbox, outbox;
} link;

static struct {
    bool running; /* the clock and random numbers are the world's */
    uint64_t now_ns;
    uint64_t random;
    uint32_t receive_max, send_max; /* bytes of one call; send_max 0: told later */
    bool refuses;                   /* connections */
    link links[LINKS_MAX];
    /* Nothing is to be told: do something, or return false to let time pass. */
    bool (*idle)(void);
    void (*opened)(link *opened);
    void (*arrived)(link *where);
} network;

/* ---- what the linker puts in place ---- */

int __real_clock_gettime(clockid_t clock, struct timespec *now);
ssize_t __real_getrandom(void *bytes, size_t size, unsigned int flags);
int __real_connect(int descriptor, const struct sockaddr *address, socklen_t size);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
ssize_t __wrap_getrandom(void *bytes, size_t size, unsigned int flags);
int __wrap_connect(int descriptor, const struct sockaddr *address, socklen_t size);
int __wrap_kv_reactor_epoll_open(bool private, kv_reactor **reactor);

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!network.running)
        return __real_clock_gettime(clock, now);
    now->tv_sec = (time_t)(network.now_ns / NS_PER_S);
    now->tv_nsec = (long)(network.now_ns % NS_PER_S);
    return 0;
}

ssize_t __wrap_getrandom(void *bytes, size_t size, unsigned int flags)
{
    if (!network.running)
        return __real_getrandom(bytes, size, flags);
    memset(bytes, (int)++network.random, size);
    return (ssize_t)size;
}

/* The driver says what became of it. */
int __wrap_connect(int descriptor, const struct sockaddr *address, socklen_t size)
{
    if (!network.running)
        return __real_connect(descriptor, address, size);
    errno = EINPROGRESS;
    return -1;
}

/* ---- links ---- */

static link *link_of(const kv_socket *socket)
{
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        if (network.links[i].socket == socket)
            return &network.links[i];
    return NULL;
}

static void buffer_add(buffer *into, const void *bytes, size_t size)
{
    if (size > BUFFER_SIZE - into->end) {
        memmove(into->bytes, into->bytes + into->begin, into->end - into->begin);
        into->end -= into->begin;
        into->begin = 0;
    }
    assert(size <= BUFFER_SIZE - into->end);
    memcpy(into->bytes + into->end, bytes, size);
    into->end += size;
}

static size_t buffer_room(const buffer *of)
{
    return BUFFER_SIZE - (of->end - of->begin);
}

static void link_end(link *which, int error)
{
    which->gone = true;
    which->error = error;
}

/* ---- the driver ---- */

static int64_t take(kv_socket *socket)
{
    link *from = link_of(socket);
    const struct msghdr *message = &socket->receive_message;
    size_t left = from->outbox.end - from->outbox.begin, taken = 0;

    if (left == 0)
        return from->gone ? from->error : -EINPROGRESS;
    /* Not in more than so many pieces: that would be slow, and nothing new. */
    if (left > network.receive_max + left / PIECES_MAX)
        left = network.receive_max + left / PIECES_MAX;
    for (size_t i = 0; i < message->msg_iovlen && left > 0; i++) {
        size_t size = message->msg_iov[i].iov_len < left ? message->msg_iov[i].iov_len : left;

        memcpy(message->msg_iov[i].iov_base, from->outbox.bytes + from->outbox.begin, size);
        from->outbox.begin += size;
        taken += size;
        left -= size;
    }
    assert(taken > 0);
    return (int64_t)taken;
}

static int64_t give(kv_socket *socket, size_t size_max)
{
    link *into = link_of(socket);
    const struct msghdr *message = &socket->send_message;
    size_t given = 0;

    if (into->gone)
        return -EPIPE;
    for (size_t i = 0; i < message->msg_iovlen && given < size_max; i++) {
        size_t size = message->msg_iov[i].iov_len;

        if (size > size_max - given)
            size = size_max - given;
        if (size > buffer_room(&into->inbox))
            break;
        buffer_add(&into->inbox, message->msg_iov[i].iov_base, size);
        given += size;
    }
    if (given == 0)
        return -EPIPE;
    network.arrived(into);
    return (int64_t)given;
}

static int driver_connect(kv_socket *socket)
{
    socket->out |= KV_SOCKET_CONNECT;
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        link *opened = &network.links[i];

        if (opened->socket)
            continue;
        opened->socket = socket;
        opened->gone = false;
        opened->inbox.begin = opened->inbox.end = 0;
        opened->outbox.begin = opened->outbox.end = 0;
        network.opened(opened);
        return -EINPROGRESS;
    }
    abort(); /* more connections than nodes */
}

static int64_t driver_receive(kv_socket *socket)
{
    int64_t result = take(socket);

    if (result == -EINPROGRESS)
        socket->out |= KV_SOCKET_RECEIVE;
    return result;
}

static int64_t driver_send(kv_socket *socket)
{
    if (network.send_max > 0)
        return give(socket, network.send_max);
    socket->out |= KV_SOCKET_SEND;
    return -EINPROGRESS;
}

static bool driver_release(kv_socket *socket)
{
    link_of(socket)->socket = NULL;
    return true;
}

static bool is_due(const link *looked)
{
    return looked->socket &&
           ((looked->socket->out & (KV_SOCKET_CONNECT | KV_SOCKET_SEND)) != 0 ||
            ((looked->socket->out & KV_SOCKET_RECEIVE) != 0 &&
             (looked->gone || looked->outbox.begin < looked->outbox.end)));
}

static void driver_wait(kv_reactor *reactor, uint64_t timeout_ns)
{
    (void)reactor;
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        if (is_due(&network.links[i]))
            return;
    if (timeout_ns > 0 && !network.idle()) {
        assert(timeout_ns != KV_REACTOR_FOREVER); /* nothing waits without a deadline */
        network.now_ns += timeout_ns;
    }
}

static uint32_t link_tell(link *told)
{
    kv_socket *socket = told->socket;
    uint32_t out = socket->out;
    int64_t result;

    if ((out & KV_SOCKET_CONNECT) != 0) {
        socket->out = 0;
        socket->events->connected(socket, network.refuses ? -ECONNREFUSED : 0);
    } else if ((out & KV_SOCKET_SEND) != 0) {
        socket->out &= ~KV_SOCKET_SEND;
        result = give(socket, SIZE_MAX);
        socket->sent_bytes += result > 0 ? (uint64_t)result : 0;
        socket->events->sent(socket, result);
    } else {
        socket->out &= ~KV_SOCKET_RECEIVE;
        result = take(socket);
        socket->received_bytes += result > 0 ? (uint64_t)result : 0;
        socket->events->received(socket, result);
    }
    return 1;
}

static uint32_t driver_dispatch(kv_reactor *reactor)
{
    uint32_t count = 0;

    (void)reactor;
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        if (is_due(&network.links[i]))
            count += link_tell(&network.links[i]);
    return count;
}

static void driver_close(kv_reactor *reactor)
{
    (void)reactor;
}

static const kv_reactor_calls driver_calls = {
    .name = "fuzz",
    .close = driver_close,
    .wait = driver_wait,
    .dispatch = driver_dispatch,
    .connect = driver_connect,
    .receive = driver_receive,
    .send = driver_send,
    .release = driver_release,
};

int __wrap_kv_reactor_epoll_open(bool private, kv_reactor **reactor)
{
    assert(private); /* blocking calls alone */
    *reactor = calloc(1, sizeof(**reactor));
    return *reactor ? kv_reactor_init(*reactor, &driver_calls, private) : -ENOMEM;
}

static void network_reset(void)
{
    network.now_ns = 10ull * NS_PER_S;
    network.random = 0;
    network.receive_max = network.send_max = UINT32_MAX;
    network.refuses = false;
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        link *reset = &network.links[i];

        assert(!reset->socket);
        if (!reset->inbox.bytes) {
            reset->inbox.bytes = malloc(BUFFER_SIZE);
            reset->outbox.bytes = malloc(BUFFER_SIZE);
            assert(reset->inbox.bytes && reset->outbox.bytes);
        }
    }
}

#endif
