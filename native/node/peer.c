/* The life of a connection to another node: see peer.h. */

#include "node/peer.h"

#include "client/addresses.h"
#include "client/backoff.h"
#include "node/chain.h"
#include "node/mover.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NS_PER_MS 1000000ull

static const kv_socket_events peer_events;
static void timer_expires(kv_timer *timer);

kv_peer *kv_peer_open(kv_chain *chain, kv_loop *loop, bool evicts, kv_peer **held_at,
                      struct kv_mover *mover)
{
    kv_peer *peer = calloc(1, sizeof(*peer));
    uint64_t seed = 0;

    if (!peer)
        return NULL;
    (void)getrandom(&seed, sizeof(seed), 0); /* for pauses only: any seed will do */
    kv_random_init(&peer->random, seed);
    peer->chain = chain;
    peer->mover = mover;
    peer->held_at = held_at;
    peer->loop = loop;
    peer->evicts = evicts;
    peer->aim.endpoint = KV_CHAIN_NO_ENDPOINT;
    peer->timer.expire = timer_expires;
    kv_list_init(&peer->touched_link);
    kv_list_init(&peer->waiting);
    kv_list_init(&peer->sending);
    kv_list_init(&peer->sent);
    kv_list_append(&loop->peers, &peer->link);
    return peer;
}

static void hello_end(kv_peer *peer)
{
    kv_secret_release(peer->loop->node, peer->secret);
    peer->secret = NULL;
    free(peer->hello);
    peer->hello = NULL;
}

/* Who still has messages here ends them as it would without it. */
static void peer_free(kv_peer *peer)
{
    kv_list *link;

    assert(peer->state == KV_PEER_DOWN && peer->stopping);
    assert(kv_list_empty(&peer->sending) && kv_list_empty(&peer->sent));
    while ((link = kv_list_pop(&peer->waiting)) != NULL)
        KV_CONTAINER(link, kv_peer_message, link)->state = KV_PEER_IDLE;
    kv_timer_stop(peer->loop->reactor, &peer->timer);
    kv_list_remove(&peer->touched_link);
    kv_list_remove(&peer->link);
    *peer->held_at = NULL;
    free(peer);
}

void kv_peer_touch(kv_peer *peer)
{
    if (kv_list_empty(&peer->touched_link))
        kv_list_append(&peer->loop->peers_touched, &peer->touched_link);
}

/* Another chain's head is looked after by that chain. */
static void lost_tell(kv_peer *peer, int error, const char *reason)
{
    if (!peer->mover)
        kv_chain_tell_lost(peer->chain, error, reason);
}

void kv_peer_break(kv_peer *peer, int error, const char *reason)
{
    bool ready = peer->state == KV_PEER_READY;

    if (peer->state < KV_PEER_CONNECTING || peer->state == KV_PEER_CLOSING)
        return;
    /* A connection that broke is made anew; that it cannot be is told. */
    if (!ready && error != 0)
        lost_tell(peer, -error, reason ? reason : strerror(-error));
    peer->state = KV_PEER_CLOSING;
    peer->error = error;
    kv_timer_stop(peer->loop->reactor, &peer->timer);
    kv_socket_close(&peer->socket);
}

/* When the next attempt begins; the first after an answer comes at once. */
static void back_off(kv_peer *peer)
{
    uint64_t now_ns = kv_clock_ns();

    peer->not_before_ns = now_ns;
    if (peer->attempts > 0)
        peer->not_before_ns += kv_backoff_ns(&peer->random, peer->attempts - 1,
                                             KV_NODE_PEER_BACKOFF_FIRST_MS,
                                             KV_NODE_PEER_BACKOFF_MAX_MS);
    if (peer->attempts < UINT32_MAX)
        peer->attempts++;
}

/* What was under way waits again, in the order in which it was sent before. */
static void messages_return(kv_peer *peer, kv_list *list)
{
    while (!kv_list_empty(list)) {
        kv_peer_message *message = KV_CONTAINER(list->previous, kv_peer_message, link);

        kv_peer_message_rest(peer, message);
        if (message->dropped) {
            message->dropped = false;
            message->state = KV_PEER_IDLE;
            message->sender->freed(message);
            continue;
        }
        message->again = false;
        message->state = KV_PEER_WAITS;
        kv_list_append(peer->waiting.next, &message->link); /* before the first one */
    }
}

static void severed_tell(kv_peer *peer)
{
    if (peer->mover)
        kv_mover_severed(peer->mover);
    else
        kv_chain_severed(peer->chain, peer->loop);
}

static void socket_closed(kv_socket *socket)
{
    kv_peer *peer = KV_CONTAINER(socket, kv_peer, socket);
    bool severed = peer->in_flight > 0;

    assert(peer->state == KV_PEER_CLOSING);
    peer->state = KV_PEER_DOWN;
    hello_end(peer);
    peer->receiving = peer->sends = peer->head_known = false;
    peer->begin = peer->end = peer->own_size = peer->own_sent = 0;
    peer->control = NULL;
    peer->body_left = 0;
    peer->in_flight = 0;
    messages_return(peer, &peer->sending);
    messages_return(peer, &peer->sent);
    if (severed) /* what was sent may still arrive: what is sent from now on says so */
        severed_tell(peer);
    back_off(peer);
    kv_peer_touch(peer);
}

void kv_peer_close_all(kv_loop *loop)
{
    kv_list *next;

    for (kv_list *link = loop->peers.next; link != &loop->peers; link = next) {
        kv_peer *peer = KV_CONTAINER(link, kv_peer, link);

        next = link->next;
        peer->stopping = true;
        kv_peer_break(peer, 0, NULL);
        kv_peer_touch(peer);
    }
}

void kv_peer_set_aim(kv_peer *peer, const kv_peer_aim *aim)
{
    bool same = peer->aim.endpoint == aim->endpoint && peer->aim.target == aim->target &&
                peer->aim.pool == aim->pool;

    if (same)
        return;
    peer->aim = *aim;
    peer->attempts = 0;
    peer->not_before_ns = 0;
    peer->pauses = 0;
    peer->probing = false;
    peer->silence_told = false;
    kv_peer_break(peer, 0, NULL);
    kv_peer_touch(peer);
}

/* ---- connecting ---- */

static void timer_start(kv_peer *peer, uint64_t due_ns)
{
    kv_timer_set(peer->loop->reactor, &peer->timer, due_ns);
}

static void socket_connected(kv_socket *socket, int error)
{
    kv_peer *peer = KV_CONTAINER(socket, kv_peer, socket);
    kv_hello_names names = {.tenant = "default",
                            .name_space = "default",
                            .version_max = peer->loop->node->settings.version_max};
    uint8_t nonce[KV_NONCE_SIZE];
    int size = -ENOMEM;

    if (peer->state != KV_PEER_CONNECTING)
        return;
    if (error == 0)
        peer->hello = malloc(sizeof(*peer->hello));
    if (peer->hello && getrandom(nonce, sizeof(nonce), 0) == sizeof(nonce) &&
        getrandom(names.client, sizeof(names.client), 0) == sizeof(names.client)) {
        peer->secret = kv_secret_hold(peer->loop->node);
        size = kv_hello_begin_client(peer->hello, &names, peer->secret ? peer->secret->bytes : NULL,
                                     peer->secret ? peer->secret->size : 0, nonce, peer->own);
    }
    if (error < 0 || size < 0) {
        kv_peer_break(peer, error < 0 ? error : size, NULL);
        return;
    }
    peer->state = KV_PEER_HELLO;
    peer->own_size = (uint32_t)size;
    peer->own_sent = 0;
    kv_peer_touch(peer);
}

/* -errno: no socket. */
static int socket_begin(kv_peer *peer, const struct sockaddr_storage *address, socklen_t size)
{
    int descriptor = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;

    if (descriptor < 0)
        return -errno;
    (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    peer->state = KV_PEER_CONNECTING;
    kv_socket_open(&peer->socket, peer->loop->reactor, descriptor, &peer_events);
    kv_socket_connect(&peer->socket, (const struct sockaddr *)address, size);
    timer_start(peer, peer->attempt_end_ns);
    return 0;
}

static void connect_begin(kv_peer *peer, uint64_t now_ns)
{
    struct sockaddr_storage address;
    socklen_t size;
    int error;

    if (peer->state == KV_PEER_DOWN)
        peer->attempt_end_ns = now_ns + KV_NODE_PEER_CONNECT_MS * NS_PER_MS;
    error = kv_addresses_find(peer->loop->node->addresses, peer->aim.endpoint, peer->attempts,
                              now_ns, &address, &size);
    if (error == -EINPROGRESS) {
        peer->state = KV_PEER_RESOLVING;
        timer_start(peer, now_ns + KV_NODE_PEER_RESOLVE_MS * NS_PER_MS);
        return;
    }
    if (error == 0)
        error = socket_begin(peer, &address, size);
    if (error == 0)
        return;
    peer->state = KV_PEER_DOWN;
    lost_tell(peer, -error, strerror(-error));
    back_off(peer);
    timer_start(peer, peer->not_before_ns);
}

static void work_down(kv_peer *peer)
{
    uint64_t now_ns = kv_clock_ns();

    if (peer->stopping) {
        peer->state = KV_PEER_DOWN;
        peer_free(peer);
        return;
    }
    if (kv_list_empty(&peer->waiting) || peer->aim.endpoint == KV_CHAIN_NO_ENDPOINT)
        peer->state = KV_PEER_DOWN;
    else if (peer->state == KV_PEER_DOWN && now_ns < peer->not_before_ns)
        timer_start(peer, peer->not_before_ns);
    else
        connect_begin(peer, now_ns);
}

/* ---- carrying ---- */

/* When somebody who does not answer is looked at again, or what rests goes on. */
static void work_ready(kv_peer *peer)
{
    uint64_t due_ns = UINT64_MAX;

    if (!kv_peer_write(peer) || !kv_peer_read(peer))
        return;
    if (peer->in_flight > 0)
        due_ns = peer->heard_ns + (peer->silence_told ? KV_NODE_PEER_SILENCE_CUT_MS
                                                      : KV_NODE_PEER_SILENCE_MS) * NS_PER_MS;
    if (!kv_list_empty(&peer->waiting) && peer->not_before_ns < due_ns &&
        peer->not_before_ns > kv_clock_ns())
        due_ns = peer->not_before_ns;
    if (due_ns < UINT64_MAX)
        timer_start(peer, due_ns);
}

static void work(kv_peer *peer)
{
    switch (peer->state) {
    case KV_PEER_DOWN:
    case KV_PEER_RESOLVING:
        work_down(peer);
        break;
    case KV_PEER_HELLO:
        if (kv_peer_write(peer))
            kv_peer_read(peer);
        break;
    case KV_PEER_READY:
        work_ready(peer);
        break;
    default:
        break;
    }
}

void kv_peer_work_all(kv_loop *loop)
{
    uint32_t count = 0;

    for (const kv_list *at = loop->peers_touched.next; at != &loop->peers_touched; at = at->next)
        count++;
    for (; count > 0; count--) { /* who is touched again has its turn in the next round */
        kv_list *link = kv_list_pop(&loop->peers_touched);

        if (!link)
            break;
        work(KV_CONTAINER(link, kv_peer, touched_link));
    }
}

/* The other node lets messages lie. */
static void look_at_silence(kv_peer *peer)
{
    uint64_t silence_ns = kv_clock_ns() - peer->heard_ns;

    if (peer->in_flight == 0 || silence_ns < KV_NODE_PEER_SILENCE_MS * NS_PER_MS)
        return;
    if (!peer->silence_told)
        lost_tell(peer, ETIMEDOUT, "it does not answer");
    peer->silence_told = true;
    if (silence_ns >= KV_NODE_PEER_SILENCE_CUT_MS * NS_PER_MS)
        kv_peer_break(peer, -ETIMEDOUT, NULL);
}

static void timer_expires(kv_timer *timer)
{
    kv_peer *peer = KV_CONTAINER(timer, kv_peer, timer);

    if (peer->state == KV_PEER_CONNECTING || peer->state == KV_PEER_HELLO)
        kv_peer_break(peer, -ETIMEDOUT, "connecting took too long");
    else if (peer->state == KV_PEER_READY)
        look_at_silence(peer);
    kv_peer_touch(peer);
}

void kv_peer_send(kv_peer *peer, kv_peer_message *message)
{
    assert(!message->dropped);
    if (message->state == KV_PEER_SENDING) {
        message->again = true;
        return;
    }
    if (message->state == KV_PEER_SENT) /* its answer finds nobody */
        kv_list_remove(&message->link);
    if (peer->control == message)
        peer->control = NULL;
    if (message->state != KV_PEER_WAITS)
        kv_list_append(&peer->waiting, &message->link);
    message->state = KV_PEER_WAITS;
    kv_peer_touch(peer);
}

bool kv_peer_drop(kv_peer *peer, kv_peer_message *message)
{
    if (message->state == KV_PEER_SENDING) {
        message->dropped = true;
        return false;
    }
    if (peer && peer->control == message)
        peer->control = NULL;
    kv_list_remove(&message->link);
    message->state = KV_PEER_IDLE;
    return true;
}

void kv_peer_pause(kv_peer *peer)
{
    peer->not_before_ns =
        kv_clock_ns() + kv_backoff_ns(&peer->random, peer->pauses, KV_NODE_PEER_PAUSE_FIRST_MS,
                                      KV_NODE_PEER_PAUSE_MAX_MS);
    peer->pauses++;
    peer->probing = true;
    kv_peer_touch(peer);
}

void kv_peer_resume(kv_peer *peer)
{
    peer->pauses = 0;
    if (!peer->probing)
        return;
    peer->probing = false;
    kv_peer_touch(peer);
}

static void socket_received(kv_socket *socket, int64_t result)
{
    kv_peer *peer = KV_CONTAINER(socket, kv_peer, socket);

    peer->receiving = false;
    if (peer->state != KV_PEER_CLOSING && kv_peer_came(peer, result))
        kv_peer_touch(peer);
}

static void socket_sent(kv_socket *socket, int64_t result)
{
    kv_peer *peer = KV_CONTAINER(socket, kv_peer, socket);

    peer->sends = false;
    if (peer->state != KV_PEER_CLOSING && kv_peer_written(peer, result))
        kv_peer_touch(peer);
}

static const kv_socket_events peer_events = {
    .connected = socket_connected,
    .received = socket_received,
    .sent = socket_sent,
    .closed = socket_closed,
};
