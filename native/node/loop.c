/* The node's event loops: a thread each, which turns its reactor, and at the end of each turn
 * sends what the turn brought, so that replies to several requests leave in one go.
 *
 * A loop ends when it was told to and its last connection is gone. */

#include "node/chain.h"
#include "node/peer.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* Look at every connection, so that none needs a timer of its own. */
static void watch(kv_timer *timer)
{
    kv_loop *loop = KV_CONTAINER(timer, kv_loop, watch);
    uint64_t now_ns = kv_reactor_now_ns(loop->reactor);
    kv_list *next;

    for (kv_list *link = loop->connections.next; link != &loop->connections; link = next) {
        next = link->next; /* the one that is looked at may go */
        kv_session_watch(KV_CONTAINER(link, kv_session, link), now_ns);
    }
    if (!kv_list_empty(&loop->connections))
        kv_timer_set(loop->reactor, &loop->watch, now_ns + loop->node->settings.watch_ns);
}

static void for_each_connection(kv_loop *loop, void (*visit)(kv_session *session))
{
    kv_list *next;

    for (kv_list *link = loop->connections.next; link != &loop->connections; link = next) {
        next = link->next;
        visit(KV_CONTAINER(link, kv_session, link));
    }
}

/* What an earlier connection left running is given up, too. */
static void cut_at_stop(kv_session *session)
{
    if (session->gone)
        kv_serving_abandon(session, true);
    else
        kv_session_cut(session, KV_EVENT_DISCONNECTED, 0, "the node stops");
}

/* Loop 0 accepts, and so it tells the others: its mail comes after any connection that it gave
 * them. */
static void stop(kv_mail *mail)
{
    kv_loop *loop = KV_CONTAINER(mail, kv_loop, stop_mail);

    loop->stopping = true;
    if (loop == loop->node->loops) {
        kv_listen_close_all(loop->node);
        for (uint32_t i = 1; i < loop->node->loop_count; i++)
            kv_loop_stop(&loop->node->loops[i]);
    }
    for_each_connection(loop, cut_at_stop);
    kv_peer_close_all(loop);
}

static void drain(kv_mail *mail)
{
    kv_loop *loop = KV_CONTAINER(mail, kv_loop, drain_mail);

    loop->draining = true;
    for_each_connection(loop, kv_session_rest);
}

int kv_loop_open(kv_loop *loop, kv_node *node)
{
    loop->node = node;
    loop->blocks.reserved_max = node->settings.memory_loop;
    loop->watch.expire = watch;
    loop->stop_mail.deliver = stop;
    loop->drain_mail.deliver = drain;
    kv_list_init(&loop->connections);
    kv_list_init(&loop->speaking);
    kv_list_init(&loop->eager);
    for (uint32_t pool = 0; pool < KV_NODE_POOLS; pool++)
        kv_list_init(&loop->waiting[pool]);
    kv_list_init(&loop->updates);
    kv_list_init(&loop->peers);
    kv_list_init(&loop->peers_touched);
    return kv_reactor_open(node->settings.reactor_driver, &loop->reactor);
}

void kv_loop_close(kv_loop *loop)
{
    assert(kv_list_empty(&loop->connections) && kv_list_empty(&loop->peers));
    assert(loop->update_count == 0);
    if (kv_timer_is_set(&loop->watch))
        kv_timer_stop(loop->reactor, &loop->watch);
    kv_reactor_close(loop->reactor);
    kv_blocks_close(&loop->blocks);
}

bool kv_loop_reserve(kv_loop *loop, uint32_t pool, uint64_t size)
{
    uint64_t taken = loop->forward_memory[pool];

    assert(pool < KV_NODE_POOLS);
    if (pool == 0 ? !kv_blocks_reserve(&loop->blocks, size)
                  : taken > 0 && taken + size > KV_NODE_FORWARD_MEMORY)
        return false;
    if (pool > 0)
        loop->forward_memory[pool] += size;
    kv_counters_add(&loop->counters, KV_COUNTER(request_memory), size);
    return true;
}

void kv_loop_release(kv_loop *loop, uint32_t pool, uint64_t size)
{
    assert(pool < KV_NODE_POOLS && (pool == 0 || loop->forward_memory[pool] >= size));
    if (pool == 0)
        kv_blocks_release(&loop->blocks, size);
    else
        loop->forward_memory[pool] -= size;
    kv_counters_subtract(&loop->counters, KV_COUNTER(request_memory), size);
    loop->memory_came = true;
}

void kv_loop_speak(kv_loop *loop, kv_session *session)
{
    if (kv_list_empty(&session->speaking_link))
        kv_list_append(&loop->speaking, &session->speaking_link);
}

/* Each of those that are on the list now; who comes back to it has its turn in the next round. */
static void speak(kv_loop *loop)
{
    kv_list now;
    kv_list *link;

    if (kv_list_empty(&loop->speaking))
        return;
    kv_list_init(&now);
    kv_list_append(&loop->speaking, &now);
    while ((link = loop->speaking.next) != &now) {
        kv_list_remove(link);
        kv_outgoing_flush(KV_CONTAINER(link, kv_session, speaking_link));
    }
    kv_list_remove(&now);
}

/* Connections that were held up for memory go on, the longest waiting first; who finds too
 * little keeps its place. */
static void serve_waiting(kv_loop *loop)
{
    for (uint32_t pool = 0; loop->memory_came && pool < KV_NODE_POOLS; pool++)
        while (!kv_list_empty(&loop->waiting[pool])) {
            kv_list *first = loop->waiting[pool].next;

            kv_receive_go_on(KV_CONTAINER(first, kv_session, waiting_link));
            if (loop->waiting[pool].next == first)
                break;
        }
    loop->memory_came = false;
}

static void serve_eager(kv_loop *loop)
{
    kv_list now;
    kv_list *link;

    kv_list_init(&now);
    kv_list_append(&loop->eager, &now);
    while ((link = loop->eager.next) != &now) {
        kv_list_remove(link);
        kv_receive_go_on(KV_CONTAINER(link, kv_session, eager_link));
    }
    kv_list_remove(&now);
}

static bool has_ended(const kv_loop *loop)
{
    return loop->stopping && loop->listener_count == 0 && kv_list_empty(&loop->connections) &&
           kv_list_empty(&loop->peers) && loop->update_count == 0;
}

static void *run(void *argument)
{
    kv_loop *loop = argument;
    kv_node *node = loop->node;

    while (!has_ended(loop)) {
        bool busy = !kv_list_empty(&loop->eager) || !kv_list_empty(&loop->speaking) ||
                    !kv_list_empty(&loop->updates) || !kv_list_empty(&loop->peers_touched);

        kv_reactor_turn(loop->reactor, busy ? 0 : KV_REACTOR_FOREVER);
        serve_eager(loop);
        serve_waiting(loop);
        kv_chain_carry_out(loop);
        kv_peer_work_all(loop);
        speak(loop);
        if (!kv_list_empty(&loop->connections) && !kv_timer_is_set(&loop->watch))
            kv_timer_set(loop->reactor, &loop->watch,
                         kv_reactor_now_ns(loop->reactor) + node->settings.watch_ns);
    }
    pthread_mutex_lock(&node->mutex);
    node->loops_running--;
    pthread_cond_broadcast(&node->quiet);
    pthread_mutex_unlock(&node->mutex);
    return NULL;
}

int kv_loop_start(kv_loop *loop)
{
    sigset_t all;
    sigset_t before;
    char name[16];
    int error;

    sigfillset(&all); /* signals are the caller's threads' business */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&loop->thread, NULL, run, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0) {
        snprintf(name, sizeof(name), "kv-node-%u", (unsigned)(loop - loop->node->loops) % 1000u);
        (void)pthread_setname_np(loop->thread, name); /* a name is a help, not a need */
    }
    return -error;
}

void kv_loop_stop(kv_loop *loop)
{
    kv_reactor_post(loop->reactor, &loop->stop_mail);
}

void kv_loop_drain(kv_loop *loop)
{
    kv_reactor_post(loop->reactor, &loop->drain_mail);
}
