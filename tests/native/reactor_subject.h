/* What the tests of the reactor share: a reactor under test of each driver, and sockets that write
 * down what they hear. */
#ifndef REACTOR_SUBJECT_H
#define REACTOR_SUBJECT_H

#include "drivers/reactor.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef enum test_driver {
    EPOLL = 0,
    EPOLL_PRIVATE = 1,
    URING = 2,
    DRIVER_COUNT = 3
} test_driver;

/* A socket, its last receive and send, and how often it was called. */
typedef struct test_end {
    kv_socket socket;
    int connect_result;
    uint32_t connects;
    uint32_t receives;
    uint32_t sends;
    uint32_t expected_receives; /* the test's own */
    uint32_t expected_sends;
    uint32_t closes;
    int64_t received; /* results */
    int64_t sent;
    void (*then)(struct test_end *end); /* after each but closed */
    struct iovec receive_range;
    struct iovec send_range;
} test_end;

static inline int reactor_open(test_driver driver, kv_reactor **reactor)
{
    if (driver == EPOLL_PRIVATE)
        return kv_reactor_open_private(reactor);
    return kv_reactor_open(driver == URING ? KV_REACTOR_URING : KV_REACTOR_EPOLL, reactor);
}

static inline kv_reactor *open_reactor(test_driver driver)
{
    kv_reactor *reactor = NULL;

    assert(reactor_open(driver, &reactor) == 0);
    return reactor;
}

/* Turn until a count is reached. */
static inline void turn_until(kv_reactor *reactor, const uint32_t *count, uint32_t wanted)
{
    while (*count < wanted)
        (void)kv_reactor_turn(reactor, KV_REACTOR_FOREVER);
    assert(*count == wanted);
}

/* Everything that is due without waiting. */
static inline void turn_idle(kv_reactor *reactor)
{
    while (kv_reactor_turn(reactor, 0) > 0)
        continue;
}

static inline uint64_t clock_ns(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- ends ---- */

static inline test_end *end_of(kv_socket *socket)
{
    return KV_CONTAINER(socket, test_end, socket);
}

static inline void end_told(test_end *end)
{
    assert(end->closes == 0);
    if (end->then != NULL)
        end->then(end);
}

static inline void end_connected(kv_socket *socket, int error)
{
    end_of(socket)->connect_result = error;
    end_of(socket)->connects++;
    end_told(end_of(socket));
}

static inline void end_received(kv_socket *socket, int64_t result)
{
    end_of(socket)->received = result;
    end_of(socket)->receives++;
    end_told(end_of(socket));
}

static inline void end_sent(kv_socket *socket, int64_t result)
{
    end_of(socket)->sent = result;
    end_of(socket)->sends++;
    end_told(end_of(socket));
}

static inline void end_closed(kv_socket *socket)
{
    end_of(socket)->closes++;
    assert(end_of(socket)->closes == 1);
}

static const kv_socket_events end_events = {
    .connected = end_connected, .received = end_received, .sent = end_sent, .closed = end_closed};

static inline void end_open(test_end *end, kv_reactor *reactor, int descriptor)
{
    memset(end, 0, sizeof(*end));
    kv_socket_open(&end->socket, reactor, descriptor, &end_events);
}

/* What is known at once is written down as if it had been called back, without `then`. */
static inline void end_receive(test_end *end, void *memory, size_t size)
{
    int64_t result;

    end->receive_range = (struct iovec){.iov_base = memory, .iov_len = size};
    result = kv_socket_receive(&end->socket, &end->receive_range, 1);
    if (result == -EINPROGRESS)
        return;
    end->received = result;
    end->receives++;
}

static inline void end_send(test_end *end, const void *memory, size_t size)
{
    int64_t result;

    end->send_range = (struct iovec){.iov_base = (void *)(uintptr_t)memory, .iov_len = size};
    result = kv_socket_send(&end->socket, &end->send_range, 1);
    if (result == -EINPROGRESS)
        return;
    end->sent = result;
    end->sends++;
}

/* Receive once and wait for it. */
static inline int64_t end_receive_once(test_end *end, void *memory, size_t size)
{
    uint32_t before = end->receives;

    end_receive(end, memory, size);
    turn_until(end->socket.reactor, &end->receives, before + 1);
    return end->received;
}

static inline int64_t end_send_once(test_end *end, const void *memory, size_t size)
{
    uint32_t before = end->sends;

    end_send(end, memory, size);
    turn_until(end->socket.reactor, &end->sends, before + 1);
    return end->sent;
}

static inline void end_close(test_end *end)
{
    kv_reactor *reactor = end->socket.reactor;

    kv_socket_close(&end->socket);
    assert(end->closes == 0);
    turn_until(reactor, &end->closes, 1);
}

/* ---- descriptors ---- */

static inline void pair_open(int descriptors[2])
{
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, descriptors) == 0);
}

/* A listening loopback socket, and where it listens. */
static inline int listener_descriptor(struct sockaddr_in *address, int backlog)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t size = sizeof(*address);

    *address = (struct sockaddr_in){.sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert(descriptor >= 0);
    assert(bind(descriptor, (struct sockaddr *)address, size) == 0);
    assert(listen(descriptor, backlog) == 0);
    assert(getsockname(descriptor, (struct sockaddr *)address, &size) == 0);
    return descriptor;
}

static inline int tcp_descriptor(void)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert(descriptor >= 0);
    return descriptor;
}

/* Two ends of a connection over loopback. */
static inline void tcp_pair_open(int descriptors[2])
{
    struct sockaddr_in address;
    int listener = listener_descriptor(&address, 1);

    descriptors[0] = tcp_descriptor();
    assert(connect(descriptors[0], (struct sockaddr *)&address, sizeof(address)) == 0);
    descriptors[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert(descriptors[1] >= 0);
    close(listener);
}

/* ---- rules ---- */

typedef void (*test_rule)(test_driver driver);

/* A container may forbid io_uring; that driver is then left out. */
static inline bool driver_is_allowed(test_driver driver)
{
    kv_reactor *reactor;
    int error = reactor_open(driver, &reactor);

    if (error == 0)
        kv_reactor_close(reactor);
    assert(error == 0 || (driver == URING && (error == -ENOSYS || error == -EPERM)));
    return error == 0;
}

static inline void check_all(const test_rule *rules, size_t count)
{
    for (unsigned driver = 0; driver < DRIVER_COUNT; driver++) {
        if (!driver_is_allowed((test_driver)driver))
            continue;
        for (size_t rule = 0; rule < count; rule++)
            rules[rule]((test_driver)driver);
    }
}

#endif
