/* The storage node as its owner sees it: open it, give it targets, let it listen, drain and
 * close it.
 *
 *   open ──add_target──► open ──listen──► serving ──drain──► draining ──close──► gone
 *
 * Loops start with the first listen, so that targets do not change under them. */

#include "bytes/checksum.h"
#include "node/chain.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_GRACE_MS 30000u /* for operations, after all of them were cancelled */

static uint64_t or_default(uint64_t value, uint64_t fallback)
{
    return value > 0 ? value : fallback;
}

static uint32_t loops_wanted(const kv_node_options *options)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    if (options->reactors > 0)
        return options->reactors;
    if (cores < 1)
        return 1;
    return cores < (long)KV_NODE_REACTORS_DEFAULT_MAX ? (uint32_t)cores : KV_NODE_REACTORS_DEFAULT_MAX;
}

static int options_check(const kv_node_options *options, char *message)
{
    const char *bad = NULL;

    if (options->reactors > KV_NODE_REACTORS_MAX)
        bad = "reactors";
    else if (options->reactor_driver > KV_REACTOR_EPOLL)
        bad = "reactor_driver";
    else if (options->secret_size > KV_NODE_SECRET_SIZE_LIMIT || (options->secret_size > 0 &&
                                                                  !options->secret))
        bad = "secret";
    else if (options->requests_max > KV_NODE_REQUESTS_MAX)
        bad = "requests_max";
    if (bad)
        snprintf(message, KV_MESSAGE_SIZE, "option out of range: %s", bad);
    return bad ? -EINVAL : 0;
}

/* Often enough that nobody is cut much later than it says, and not more. */
static uint64_t watch_ns(const kv_node_settings *settings)
{
    uint64_t shortest = settings->stall_ns < settings->hello_ns ? settings->stall_ns : settings->hello_ns;

    if (settings->idle_ns < shortest)
        shortest = settings->idle_ns;
    shortest /= 4;
    if (shortest > KV_NODE_WATCH_MS_MAX * 1000000ull)
        return KV_NODE_WATCH_MS_MAX * 1000000ull;
    return shortest > 1000000 ? shortest : 1000000;
}

static int settings_fill(kv_node *node, const kv_node_options *options)
{
    kv_node_settings *settings = &node->settings;
    uint64_t memory = or_default(options->memory_max, KV_NODE_MEMORY_DEFAULT) / node->loop_count;

    *settings = (kv_node_settings){
        .node = options->node,
        .stall_ns = or_default(options->stall_timeout_ms,
                               KV_NODE_STALL_TIMEOUT_MS_DEFAULT) * 1000000u,
        .idle_ns = or_default(options->idle_timeout_ms, KV_NODE_IDLE_TIMEOUT_MS_DEFAULT) * 1000000u,
        .hello_ns = or_default(options->hello_timeout_ms,
                               KV_NODE_HELLO_TIMEOUT_MS_DEFAULT) * 1000000u,
        .memory_loop = memory > KV_NODE_MEMORY_LOOP_MIN ? memory : KV_NODE_MEMORY_LOOP_MIN,
        .connections_max = (uint32_t)or_default(options->connections_max,
                                                KV_NODE_CONNECTIONS_DEFAULT),
        .requests_max = (uint32_t)or_default(options->requests_max, KV_NODE_REQUESTS_DEFAULT),
        .rights = KV_RIGHT_READ | KV_RIGHT_WRITE | KV_RIGHT_ADMINISTER | KV_RIGHT_PEER,
        .version_max = options->protocol_version_max,
        .reactor_driver = options->reactor_driver,
        .lent_connection = KV_NODE_LENT_CONNECTION_MAX,
    };
    settings->watch_ns = watch_ns(settings);
    if (getrandom(&settings->run, sizeof(settings->run), 0) != sizeof(settings->run))
        return -EIO; /* two runs with one number would take each other's updates for their own */
    return 0;
}

static void loops_close(kv_node *node, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        kv_loop_close(&node->loops[i]);
    free(node->loops);
}

static int loops_open(kv_node *node, const kv_node_options *options, char *message)
{
    int error;

    node->loops = calloc(node->loop_count, sizeof(*node->loops));
    if (!node->loops)
        return -ENOMEM;
    for (uint32_t i = 0; i < node->loop_count; i++) {
        error = kv_loop_open(&node->loops[i], node);
        if (error < 0) {
            snprintf(message, KV_MESSAGE_SIZE, "the reactor driver %s cannot start: %s",
                     options->reactor_driver == KV_REACTOR_URING ? "io_uring" : "epoll", strerror(-error));
            loops_close(node, i);
            return error;
        }
    }
    return 0;
}

/* Everything but loops. */
static int node_fill(kv_node *node, const kv_node_options *options)
{
    const kv_channels_options channels = {.clients_max = KV_NODE_CHANNEL_CLIENTS_MAX,
                                          .channels_per_client_max = KV_NODE_CHANNELS_PER_CLIENT_MAX,
                                          .memory_max = KV_NODE_CHANNEL_MEMORY_MAX};
    int error = settings_fill(node, options);

    if (error < 0)
        return error;
    error = kv_channels_open(&channels, &node->channels);
    if (error < 0)
        return error;
    error = kv_node_set_secret(node, options->secret, options->secret_size);
    if (error < 0)
        goto fail_secret;
    error = kv_events_open(&node->events);
    if (error < 0)
        goto fail_events;
    return 0;

fail_events:
    kv_secret_release(node, node->secret);
fail_secret:
    kv_channels_close(node->channels);
    return error;
}

static void node_init(kv_node *node)
{
    pthread_condattr_t attributes;

    pthread_mutex_init(&node->mutex, NULL);
    pthread_mutex_init(&node->channels_mutex, NULL);
    pthread_mutex_init(&node->chains_mutex, NULL);
    atomic_init(&node->resync_rate, KV_NODE_RESYNC_RATE_DEFAULT);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&node->quiet, &attributes);
    pthread_condattr_destroy(&attributes);
    kv_control_init(node);
}

static void node_free(kv_node *node)
{
    kv_control_close(node);
    pthread_cond_destroy(&node->quiet);
    pthread_mutex_destroy(&node->chains_mutex);
    pthread_mutex_destroy(&node->channels_mutex);
    pthread_mutex_destroy(&node->mutex);
    free(node);
}

static void node_empty(kv_node *node)
{
    kv_events_close(&node->events);
    kv_secret_release(node, node->secret);
    kv_routing_release(node, node->routing);
    kv_channels_close(node->channels);
}

int kv_node_open(const kv_node_options *options, kv_node **result, char *message)
{
    int error = options_check(options, message);
    kv_node *node;

    if (error < 0)
        return error;
    node = calloc(1, sizeof(*node));
    if (!node)
        return -ENOMEM;
    node_init(node);
    node->loop_count = loops_wanted(options);
    error = node_fill(node, options);
    if (error < 0) {
        snprintf(message, KV_MESSAGE_SIZE, "the node cannot be made: %s", strerror(-error));
        node_free(node);
        return error;
    }
    error = loops_open(node, options, message);
    if (error < 0) {
        node_empty(node);
        node_free(node);
        return error;
    }
    *result = node;
    return 0;
}

kv_target *kv_node_target(kv_node *node, uint32_t number)
{
    for (uint32_t i = 0; i < node->target_count; i++)
        if (node->targets[i].number == number)
            return &node->targets[i];
    return NULL;
}

/* A connection never holds so much of a tier that others find no room in it. */
static void lent_limit(kv_node *node)
{
    kv_node_settings *settings = &node->settings;
    uint64_t sum = 0;

    settings->lent_connection = KV_NODE_LENT_CONNECTION_MAX;
    for (uint32_t i = 0; i < node->target_count; i++) {
        kv_store_statistics statistics;

        kv_store_statistics_read(node->targets[i].store, &statistics);
        node->targets[i].memory_size = statistics.memory_capacity;
        node->targets[i].capacity = statistics.capacity;
        sum += statistics.memory_capacity;
        if (statistics.memory_capacity / KV_NODE_LENT_CONNECTION_SHARE < settings->lent_connection)
            settings->lent_connection = statistics.memory_capacity / KV_NODE_LENT_CONNECTION_SHARE;
    }
    settings->lent_loop = sum / KV_NODE_LENT_SHARE / node->loop_count;
}

int kv_node_add_target(kv_node *node, uint32_t number, const kv_store_options *options,
                       char *message)
{
    kv_store_options own = *options;
    kv_target *target;
    int error;

    if (node->started || node->target_count == KV_NODE_TARGETS_MAX || kv_node_target(node,
                                                                                     number)) {
        snprintf(message, KV_MESSAGE_SIZE,
                 "target %u cannot be added: it is there already, or the node listens, or has %u", number,
                 node->target_count);
        return -EINVAL;
    }
    own.workers = KV_WORKERS_NONE;
    target = &node->targets[node->target_count];
    error = kv_store_open(&own, &target->store, message);
    if (error < 0)
        return error;
    target->number = number;
    target->engine = kv_store_engine(target->store);
    target->ttl_ms = options->ttl_ms;
    target->objects_max = options->objects_max;
    target->caches = options->eviction == KV_EVICTION_CACHE;
    node->target_count++;
    lent_limit(node);
    return 0;
}

static int node_start(kv_node *node, char *message)
{
    int error = kv_control_start(node);

    node->started = true;
    for (uint32_t i = 0; i < node->loop_count && error == 0; i++) {
        error = kv_loop_start(&node->loops[i]);
        node->loops_running += error == 0;
    }
    if (error < 0)
        snprintf(message, KV_MESSAGE_SIZE, "threads cannot be started: %s", strerror(-error));
    return error;
}

int kv_node_listen(kv_node *node, const char *host, uint32_t port, char *message)
{
    int error = node->started ? 0 : node_start(node, message);

    return error < 0 ? error : kv_listen_open(node, host, port, message);
}

kv_routing *kv_routing_hold(kv_node *node)
{
    kv_routing *routing;

    pthread_mutex_lock(&node->mutex);
    routing = node->routing;
    if (routing)
        routing->references++;
    pthread_mutex_unlock(&node->mutex);
    return routing;
}

void kv_routing_release(kv_node *node, kv_routing *routing)
{
    bool last;

    if (!routing)
        return;
    pthread_mutex_lock(&node->mutex);
    assert(routing->references > 0);
    last = --routing->references == 0;
    pthread_mutex_unlock(&node->mutex);
    if (last)
        free(routing);
}

int kv_node_publish_routing(kv_node *node, const void *bytes, uint64_t size)
{
    kv_routing *routing;
    kv_routing *before;

    if (size > KV_CONTROL_SIZE_LIMIT)
        return -EMSGSIZE;
    routing = malloc(sizeof(*routing) + size);
    if (!routing)
        return -ENOMEM;
    routing->references = 1;
    routing->size = size;
    memcpy(routing->bytes, bytes, size);
    pthread_mutex_lock(&node->mutex);
    before = node->routing;
    node->routing = routing;
    pthread_mutex_unlock(&node->mutex);
    kv_routing_release(node, before);
    return 0;
}

int kv_node_set_secret(kv_node *node, const uint8_t *bytes, uint32_t size)
{
    kv_secret *secret = NULL;
    kv_secret *before;

    if (size > KV_NODE_SECRET_SIZE_LIMIT)
        return -EINVAL;
    if (size > 0) {
        secret = malloc(sizeof(*secret) + size);
        if (!secret)
            return -ENOMEM;
        secret->references = 1;
        secret->size = size;
        memcpy(secret->bytes, bytes, size);
    }
    pthread_mutex_lock(&node->mutex);
    before = node->secret;
    node->secret = secret;
    pthread_mutex_unlock(&node->mutex);
    kv_secret_release(node, before);
    return 0;
}

/* Locked: sleep until something ended, or the time has come. False: it has. */
static bool wait_quiet(kv_node *node, uint64_t end_ns)
{
    struct timespec end = {.tv_sec = (time_t)(end_ns / 1000000000u),
                           .tv_nsec = (long)(end_ns % 1000000000u)};

    return pthread_cond_timedwait(&node->quiet, &node->mutex, &end) != ETIMEDOUT;
}

int kv_node_drain(kv_node *node, uint64_t timeout_ms)
{
    uint64_t end_ns = kv_clock_ns() + timeout_ms * 1000000u;
    bool quiet;

    /* Release: a loop that gets the mail sees it; who is accepted just now is refused on
     * arrival. */
    if (!node->started || atomic_exchange_explicit(&node->draining, true, memory_order_acq_rel))
        return 0;
    for (uint32_t i = 0; i < node->loop_count; i++)
        kv_loop_drain(&node->loops[i]);
    pthread_mutex_lock(&node->mutex);
    do /* Relaxed: it goes down under the mutex. */
        quiet = atomic_load_explicit(&node->connection_count, memory_order_relaxed) == 0;
    while (!quiet && wait_quiet(node, end_ns));
    pthread_mutex_unlock(&node->mutex);
    return quiet ? 0 : -ETIMEDOUT;
}

/* True: every loop has ended. */
static bool loops_stop(kv_node *node, uint64_t timeout_ms)
{
    uint64_t end_ns = kv_clock_ns() + (timeout_ms + CLOSE_GRACE_MS) * 1000000u;
    bool quiet;

    if (node->loops_running > 0)
        kv_loop_stop(&node->loops[0]); /* it tells the others */
    pthread_mutex_lock(&node->mutex);
    while (!(quiet = node->loops_running == 0) && wait_quiet(node, end_ns))
        ;
    pthread_mutex_unlock(&node->mutex);
    return quiet;
}

int kv_node_close(kv_node *node, uint64_t timeout_ms)
{
    uint32_t running = node->loops_running;
    int result = 0;

    if (node->started)
        kv_control_stop(node);
    kv_chain_stop_all(node);
    if (!loops_stop(node, timeout_ms))
        return -ETIMEDOUT; /* a device holds memory of ours: better kept than reused */
    for (uint32_t i = 0; i < running; i++)
        pthread_join(node->loops[i].thread, NULL);
    for (uint32_t i = 0; i < node->target_count; i++) {
        int error = kv_store_close(node->targets[i].store, timeout_ms);

        result = result < 0 ? result : error;
    }
    kv_control_join(node); /* its last post may not have returned yet */
    loops_close(node, node->loop_count);
    kv_chain_close_all(node);
    node_empty(node);
    node_free(node);
    return result;
}

int kv_node_event_descriptor(kv_node *node)
{
    return node->events.descriptor;
}

int kv_node_take_events(kv_node *node, kv_node_event *events, int max)
{
    return kv_events_take(&node->events, events, max);
}

void kv_node_statistics_read(kv_node *node, kv_node_statistics *statistics)
{
    *statistics = (kv_node_statistics){0};
    for (uint32_t i = 0; i < node->loop_count; i++)
        kv_counters_sum(&node->loops[i].counters, statistics);
    kv_events_sum(&node->events, statistics);
}

int kv_node_target_statistics(kv_node *node, uint32_t number, kv_store_statistics *statistics)
{
    kv_target *target = kv_node_target(node, number);

    if (!target)
        return -ENOENT;
    kv_store_statistics_read(target->store, statistics);
    return 0;
}

int kv_node_describe(kv_node *node, char *text, size_t size)
{
    return snprintf(text, size, "reactor=%s reactors=%u checksum=%s",
                    kv_reactor_name(node->loops[0].reactor), node->loop_count, kv_checksum_kind());
}
