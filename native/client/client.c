/* The client as its callers see it: open, route, run, submit, cancel, close, abandon.
 *
 * A call is on client->calls from the moment it has begun to the moment it is finished, so that it
 * can be cancelled by its request and waited for by close. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

void kv_client_set_failure(kv_client *client, const char *node, const char *reason)
{
    pthread_mutex_lock(&client->mutex);
    snprintf(client->failure, sizeof(client->failure), "%s: %s", node, reason);
    pthread_mutex_unlock(&client->mutex);
}

void kv_client_explain(kv_client *client, char *message)
{
    pthread_mutex_lock(&client->mutex);
    memcpy(message, client->failure, KV_MESSAGE_SIZE);
    pthread_mutex_unlock(&client->mutex);
}

/* ---- open ---- */

static bool name_legal(const char *name)
{
    size_t size = strlen(name);

    if (size == 0 || size > KV_NAME_SIZE_MAX)
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
           size;
}

static int refuse(char *message, const char *what)
{
    snprintf(message, KV_MESSAGE_SIZE, "%s", what);
    return -EINVAL;
}

static int options_check(const kv_client_options *options, char *message)
{
    if ((options->tenant && !name_legal(options->tenant)) ||
        (options->name_space && !name_legal(options->name_space)))
        return refuse(message, "tenant and namespace are 1 to 63 letters, digits, '-', '_' or '.'");
    if (options->secret_size > KV_CLIENT_SECRET_SIZE_MAX)
        return refuse(message, "the secret is longer than 1024 bytes");
    if (options->token_size > KV_TOKEN_SIZE_MAX)
        return refuse(message, "the token is longer than 4096 bytes");
    if (options->lanes > KV_CLIENT_LANES_MAX)
        return refuse(message, "more than 64 lanes");
    if (options->connections_max > KV_CLIENT_CONNECTIONS_MAX ||
        (options->connections_max > 0 && options->connections_max < KV_CLIENT_CONNECTIONS_MIN))
        return refuse(message, "connections to one node are 2 to 4096");
    if (options->reactor_driver > KV_REACTOR_EPOLL)
        return refuse(message, "an unknown reactor driver");
    return 0;
}

/* Asynchronous batches and blocking callers share the connections that are allowed to a node. */
static void lanes_divide(kv_client *client, const kv_client_options *options)
{
    uint32_t all =
        options->connections_max ? options->connections_max : KV_CLIENT_CONNECTIONS_DEFAULT;

    client->lane_count_max = options->lanes ? options->lanes : KV_CLIENT_LANES_DEFAULT;
    if (client->lane_count_max > all / 2)
        client->lane_count_max = all / 2;
    client->blocking_count_max = all - client->lane_count_max;
}

static void names_fill(kv_client *client, const kv_client_options *options)
{
    kv_hello_names *names = &client->names;

    snprintf(names->tenant, sizeof(names->tenant), "%s",
             options->tenant ? options->tenant : "default");
    snprintf(names->name_space, sizeof(names->name_space), "%s",
             options->name_space ? options->name_space : "default");
    names->token_size = options->token_size;
    if (options->token_size > 0)
        memcpy(names->token, options->token, options->token_size);
    client->secret_size = options->secret_size;
    if (options->secret_size > 0)
        memcpy(client->secret, options->secret, options->secret_size);
}

static int conditions_init(kv_client *client)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&client->mutex, NULL);
    pthread_cond_init(&client->lane_free, &attributes);
    pthread_cond_init(&client->calls_end, &attributes);
    pthread_condattr_destroy(&attributes);
    return 0;
}

static void client_free(kv_client *client)
{
    pthread_cond_destroy(&client->calls_end);
    pthread_cond_destroy(&client->lane_free);
    pthread_mutex_destroy(&client->mutex);
    free(client->loads);
    free(client->lanes);
    free(client);
}

/* What has something to be closed. */
static int parts_open(kv_client *client, char *message)
{
    int error;

    if (getrandom(client->names.client, KV_CLIENT_ID_SIZE, 0) != KV_CLIENT_ID_SIZE)
        return refuse(message, "the system gives no random numbers");
    error = kv_trouble_open(&client->trouble);
    if (error < 0) {
        snprintf(message, KV_MESSAGE_SIZE, "no descriptor is left: %s", strerror(-error));
        return error;
    }
    error = kv_addresses_open(&client->addresses);
    if (error < 0) {
        kv_trouble_close(&client->trouble);
        return error;
    }
    kv_sequences_open(&client->sequences);
    return 0;
}

int kv_client_open(const kv_client_options *options, kv_client **result, char *message)
{
    int error = options_check(options, message);
    kv_client *client;

    if (error < 0)
        return error;
    client = calloc(1, sizeof(*client));
    if (!client)
        return -ENOMEM;
    conditions_init(client);
    kv_list_init(&client->calls);
    kv_list_init(&client->idle_lanes);
    names_fill(client, options);
    lanes_divide(client, options);
    client->reactor_driver = options->reactor_driver;
    client->verify = options->unverified == 0;
    client->timeout_ms = options->timeout_ms ? options->timeout_ms : KV_CLIENT_TIMEOUT_MS_DEFAULT;
    client->connect_timeout_ms = options->connect_timeout_ms ? options->connect_timeout_ms
                                                             : KV_CLIENT_CONNECT_TIMEOUT_MS_DEFAULT;
    client->lanes = calloc(client->lane_count_max + client->blocking_count_max, sizeof(kv_lane *));
    client->loads = calloc(KV_CLIENT_ENDPOINTS_MAX, sizeof(*client->loads));
    if (!client->lanes || !client->loads) {
        client_free(client);
        return -ENOMEM;
    }
    error = parts_open(client, message);
    if (error < 0)
        client_free(client);
    else
        *result = client;
    return error;
}

/* ---- calls ---- */

/* Locked. -ESHUTDOWN: closing. -ENOTCONN: nobody has said where keys are. */
static int call_enter(kv_client *client, kv_call *call)
{
    if (client->closing)
        return -ESHUTDOWN;
    if (call->kind != KV_CALL_CONTROL && !client->routing)
        return -ENOTCONN;
    if (client->routing)
        call->routing = kv_route_table_hold(client->routing);
    kv_list_append(&client->calls, &call->client_link);
    client->call_count++;
    return 0;
}

/* Locked. */
static void call_leave(kv_client *client, kv_call *call)
{
    kv_list_remove(&call->client_link);
    client->call_count--;
    if (client->call_count == 0)
        pthread_cond_broadcast(&client->calls_end);
}

void kv_client_call_finished(kv_call *call)
{
    kv_client *client = call->client;
    kv_queue *queue = call->queue;
    uint64_t tag = call->tag;

    call->finished = true;
    if (!queue)
        return;
    pthread_mutex_lock(&client->mutex);
    call->batch.request->operation_state = NULL;
    call->lane->load--;
    kv_queue_report(queue, tag); /* before close can see that it was the last one */
    call_leave(client, call);
    pthread_mutex_unlock(&client->mutex);
    kv_call_close(call);
}

/* No lane was to be had: the call ends without having begun. */
static void call_unstarted(kv_call *call, int error)
{
    kv_status status = error == -ETIMEDOUT   ? KV_TIMEOUT
                       : error == -ECANCELED ? KV_CANCELLED
                                             : KV_UNAVAILABLE;

    if (call->kind == KV_CALL_CONTROL) {
        call->control->result = error;
        snprintf(call->control->message, KV_MESSAGE_SIZE, "no connection was free: %s",
                 strerror(-error));
        return;
    }
    if (call->kind == KV_CALL_FLUSH) {
        call->batch.request->status = (int32_t)status;
        return;
    }
    kv_batch_settle_all(&call->batch, status);
    kv_batch_conclude(&call->batch);
}

int kv_client_call_run(kv_client *client, kv_call *call)
{
    kv_lane *lane;
    int error;

    pthread_mutex_lock(&client->mutex);
    error = call_enter(client, call);
    if (error < 0) {
        pthread_mutex_unlock(&client->mutex);
        return error;
    }
    error = kv_pool_take(client, call, &lane);
    call->lane = error == 0 ? lane : NULL;
    pthread_mutex_unlock(&client->mutex);
    if (error == 0)
        kv_lane_run(lane, call);
    else
        call_unstarted(call, error);
    pthread_mutex_lock(&client->mutex);
    if (error == 0)
        kv_pool_give(client, lane);
    call_leave(client, call);
    pthread_mutex_unlock(&client->mutex);
    return 0;
}

static kv_call *call_of(kv_client *client, kv_request *request)
{
    kv_call_kind kind = request->operation == KV_OP_FLUSH ? KV_CALL_FLUSH : KV_CALL_BATCH;

    return kv_call_open(client, kind, request, request->timeout_ms);
}

static int flush_error(kv_status status)
{
    switch (status) {
    case KV_OK:
        return 0;
    case KV_TIMEOUT:
        return -ETIMEDOUT;
    case KV_CANCELLED:
        return -ECANCELED;
    default:
        return -ENODEV;
    }
}

int kv_client_run(kv_client *client, kv_request *request)
{
    int error = kv_batch_check(request);
    kv_call *call;

    if (error < 0)
        return error;
    call = call_of(client, request);
    if (!call)
        return -ENOMEM;
    error = kv_client_call_run(client, call);
    kv_call_close(call);
    if (error == 0 && request->operation == KV_OP_FLUSH)
        error = flush_error((kv_status)request->status);
    return error;
}

static void call_delivered(kv_mail *mail)
{
    kv_call *call = KV_CONTAINER(mail, kv_call, mail);
    kv_lane *lane = call->lane;

    kv_call_start(lane, call);
    kv_lane_cancel(lane); /* the cancellation may have come first */
}

int kv_client_submit(kv_client *client, kv_queue *queue, kv_request *request)
{
    int error = kv_batch_check(request);
    kv_call *call;

    if (error < 0)
        return error;
    error = kv_queue_reserve(queue);
    if (error < 0)
        return error;
    call = call_of(client, request);
    if (!call) {
        kv_queue_release(queue);
        return -ENOMEM;
    }
    call->queue = queue;
    call->mail.deliver = call_delivered;
    pthread_mutex_lock(&client->mutex);
    error = call_enter(client, call);
    if (error == 0) {
        error = kv_pool_background(client, &call->lane);
        if (error < 0)
            call_leave(client, call);
    }
    if (error == 0) {
        request->operation_state = call;
        call->lane->load++;
        kv_reactor_post(call->lane->reactor, &call->mail);
    }
    pthread_mutex_unlock(&client->mutex);
    if (error < 0) {
        kv_queue_release(queue);
        kv_call_close(call);
    }
    return error;
}

/* Locked: tell whoever executes it. */
static void call_cancel(kv_client *client, kv_call *call)
{
    kv_lane *lane = call->lane;

    /* Relaxed: the mail, or the mutex, orders what has to be ordered. */
    atomic_store_explicit(&call->cancelled, true, memory_order_relaxed);
    if (!lane) {
        pthread_cond_broadcast(&client->lane_free);
    } else if (lane->background && !lane->cancel_posted) {
        lane->cancel_posted = true;
        kv_reactor_post(lane->reactor, &lane->cancel_mail);
    }
}

void kv_client_cancel(kv_client *client, kv_request *request)
{
    pthread_mutex_lock(&client->mutex);
    for (kv_list *at = client->calls.next; at != &client->calls; at = at->next) {
        kv_call *call = KV_CONTAINER(at, kv_call, client_link);

        if (call->batch.request == request)
            call_cancel(client, call);
    }
    pthread_mutex_unlock(&client->mutex);
}

/* ---- close ---- */

/* Locked. False: some calls are still there. */
static bool wait_idle(kv_client *client, uint64_t timeout_ms)
{
    uint64_t end_ns = kv_clock_ns() + timeout_ms * KV_NS_PER_MS;
    struct timespec end = {.tv_sec = (time_t)(end_ns / 1000000000u),
                           .tv_nsec = (long)(end_ns % 1000000000u)};
    int error = 0;

    while (client->call_count > 0 && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&client->calls_end, &client->mutex, &end);
    return client->call_count == 0;
}

static void lanes_close(kv_client *client)
{
    for (uint32_t i = 0; i < client->lane_count; i++) {
        kv_lane *lane = client->lanes[i];

        if (lane->background) {
            kv_reactor_stop(lane->reactor);
            pthread_join(lane->thread, NULL);
        } else {
            kv_lane_close(lane);
        }
        kv_lane_free(lane);
    }
}

int kv_client_close(kv_client *client, uint64_t timeout_ms)
{
    bool idle;

    if (timeout_ms > KV_CLIENT_TIMEOUT_MS_MAX)
        timeout_ms = KV_CLIENT_TIMEOUT_MS_MAX;
    pthread_mutex_lock(&client->mutex);
    client->closing = true;
    idle = wait_idle(client, timeout_ms);
    for (kv_list *at = client->calls.next; at != &client->calls; at = at->next)
        call_cancel(client, KV_CONTAINER(at, kv_call, client_link));
    idle = idle || wait_idle(client, KV_CLIENT_CLOSE_GRACE_MS);
    pthread_mutex_unlock(&client->mutex);
    if (!idle)
        return -ETIMEDOUT;
    lanes_close(client);
    kv_sequences_close(&client->sequences);
    kv_trouble_close(&client->trouble);
    kv_addresses_close(client->addresses);
    if (client->routing)
        kv_route_table_release(client->routing);
    client_free(client);
    return 0;
}

void kv_client_abandon(kv_client *client)
{
    for (uint32_t i = 0; i < client->lane_count; i++)
        kv_lane_abandon(client->lanes[i]);
    kv_trouble_abandon(&client->trouble);
}

/* ---- statistics ---- */

static void statistics_add(kv_client_statistics *sum, kv_lane_counters *counters)
{
    uint64_t *to = &sum->connections;
    atomic_ullong *from = &counters->connections;
    const size_t count = sizeof(*counters) / sizeof(*from);

    /* Relaxed: each is a number of its own. */
    for (size_t i = 0; i < count; i++)
        to[i] += atomic_load_explicit(&from[i], memory_order_relaxed);
}

_Static_assert(sizeof(kv_client_statistics) == sizeof(kv_lane_counters) + sizeof(uint64_t),
               "the counters of a lane are the client's, in their order, without in_flight");

void kv_client_statistics_read(kv_client *client, kv_client_statistics *statistics)
{
    *statistics = (kv_client_statistics){0};
    pthread_mutex_lock(&client->mutex);
    for (uint32_t i = 0; i < client->lane_count; i++)
        statistics_add(statistics, &client->lanes[i]->counters);
    statistics->in_flight = client->call_count;
    pthread_mutex_unlock(&client->mutex);
}
