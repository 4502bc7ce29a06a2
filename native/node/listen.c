/* Listening addresses, and what happens at the door: loop 0 accepts, and gives each connection
 * to the loop that has the fewest. Whoever is one too many, or comes while the node drains, is
 * told so. */

#include "node/node_state.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static kv_loop *least_loaded(kv_node *node)
{
    kv_loop *best = &node->loops[0];

    /* Relaxed: any recent number will do. */
    for (uint32_t i = 1; i < node->loop_count; i++)
        if (atomic_load_explicit(&node->loops[i].load, memory_order_relaxed) <
            atomic_load_explicit(&best->load, memory_order_relaxed))
            best = &node->loops[i];
    return best;
}

static void accepted(kv_listener *listener, int descriptor, const struct sockaddr_storage *address)
{
    kv_node *node = KV_CONTAINER(listener, kv_node_listener, listener)->node;
    /* Relaxed: only this thread adds, and one more or less at the limit is no harm. */
    uint32_t count = atomic_load_explicit(&node->connection_count, memory_order_relaxed);
    uint32_t refused_count = atomic_load_explicit(&node->refused_count, memory_order_relaxed);
    bool refused = count - refused_count >= node->settings.connections_max ||
                   atomic_load_explicit(&node->draining, memory_order_relaxed);
    int one = 1;

    if (refused && refused_count >= KV_NODE_REFUSED_MAX) {
        kv_events_report(&node->events, KV_EVENT_REFUSED, 0, 0,
                         "%u connections wait to be told that they are too many", refused_count);
        close(descriptor);
        return;
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (kv_session_open(least_loaded(node), descriptor, address, refused) < 0)
        close(descriptor);
}

static void closed(kv_listener *listener)
{
    kv_node *node = KV_CONTAINER(listener, kv_node_listener, listener)->node;

    assert(node->loops[0].listener_count > 0);
    node->loops[0].listener_count--;
}

static void open_on_loop(kv_mail *mail)
{
    kv_node_listener *listener = KV_CONTAINER(mail, kv_node_listener, mail);
    kv_loop *loop = &listener->node->loops[0];

    if (loop->stopping) {
        close(listener->listener.descriptor);
        return;
    }
    listener->listener.accepted = accepted;
    listener->listener.closed = closed;
    listener->open = true;
    loop->listener_count++;
    kv_listener_open(&listener->listener, loop->reactor, listener->listener.descriptor);
}

void kv_listen_close_all(kv_node *node)
{
    for (uint32_t i = 0; i < KV_NODE_LISTENERS_MAX; i++)
        if (node->listeners[i].open) {
            node->listeners[i].open = false;
            kv_listener_close(&node->listeners[i].listener);
        }
}

/* A listening socket at one address, or a negative errno. */
static int listen_at(const struct addrinfo *address)
{
    int descriptor = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    int error;

    if (descriptor < 0)
        return -errno;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (address->ai_family == AF_INET6)
        setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    if (bind(descriptor, address->ai_addr, address->ai_addrlen) == 0 &&
        listen(descriptor, KV_NODE_BACKLOG) == 0)
        return descriptor;
    error = -errno;
    close(descriptor);
    return error;
}

static int port_of(int descriptor)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);

    if (getsockname(descriptor, (struct sockaddr *)&address, &size) < 0)
        return -errno;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

/* The first of a name's addresses that can be listened at. */
static int listen_at_name(const char *host, uint32_t port, char *message)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE};
    struct addrinfo *addresses;
    char service[16];
    int result = -EADDRNOTAVAIL;
    int error;

    snprintf(service, sizeof(service), "%u", port);
    error = getaddrinfo(host, service, &hints, &addresses);
    if (error != 0) {
        snprintf(message, KV_MESSAGE_SIZE, "%.200s is no address: %s", host, gai_strerror(error));
        return -EINVAL;
    }
    for (struct addrinfo *address = addresses; address && result < 0; address = address->ai_next)
        result = listen_at(address);
    freeaddrinfo(addresses);
    if (result < 0)
        snprintf(message, KV_MESSAGE_SIZE, "cannot listen at %.200s port %u: %s", host, port,
                 strerror(-result));
    return result;
}

int kv_listen_open(kv_node *node, const char *host, uint32_t port, char *message)
{
    kv_node_listener *listener;
    int descriptor;
    int bound;

    if (port > UINT16_MAX || node->listener_count == KV_NODE_LISTENERS_MAX) {
        snprintf(message, KV_MESSAGE_SIZE,
                 "port %u is none, or a node listens at %u addresses already",
                 port, node->listener_count);
        return -EINVAL;
    }
    descriptor = listen_at_name(host, port, message);
    if (descriptor < 0)
        return descriptor;
    bound = port_of(descriptor);
    if (bound < 0) {
        close(descriptor);
        return bound;
    }
    listener = &node->listeners[node->listener_count++];
    listener->node = node;
    listener->listener.descriptor = descriptor;
    listener->mail.deliver = open_on_loop;
    kv_reactor_post(node->loops[0].reactor, &listener->mail);
    return bound;
}
