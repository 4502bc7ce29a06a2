/* Lanes to check out. A blocking caller takes the one that was used last, since its connections and
 * caches are warm; one more is made while there are fewer than the limit; beyond it callers wait.
 * Background lanes are started by the first asynchronous batches. Everything here runs with the
 * client's mutex held, but for opening a lane. */

#include "client/client_state.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

static int lane_make(kv_client *client, bool background, kv_lane **lane)
{
    int error = kv_lane_open(client, background, lane);

    if (error == 0)
        client->lanes[client->lane_count++] = *lane;
    return error;
}

static void wait_until(kv_client *client, uint64_t deadline_ns)
{
    struct timespec time = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                            .tv_nsec = (long)(deadline_ns % 1000000000u)};

    pthread_cond_timedwait(&client->lane_free, &client->mutex, &time);
}

int kv_pool_take(kv_client *client, kv_call *call, kv_lane **result)
{
    for (;;) {
        kv_list *link = kv_list_pop(&client->idle_lanes);
        int error;

        if (link) {
            *result = KV_CONTAINER(link, kv_lane, link);
            return 0;
        }
        if (client->blocking_count < client->blocking_count_max) {
            error = lane_make(client, false, result);
            client->blocking_count += error == 0;
            return error;
        }
        /* Relaxed: set with the mutex held. */
        if (atomic_load_explicit(&call->cancelled, memory_order_relaxed))
            return -ECANCELED;
        if (kv_clock_ns() >= call->deadline_ns)
            return -ETIMEDOUT;
        wait_until(client, call->deadline_ns);
    }
}

void kv_pool_give(kv_client *client, kv_lane *lane)
{
    assert(!lane->background && kv_list_empty(&lane->link));
    lane->link.previous = &client->idle_lanes;
    lane->link.next = client->idle_lanes.next;
    client->idle_lanes.next->previous = &lane->link;
    client->idle_lanes.next = &lane->link;
    pthread_cond_signal(&client->lane_free);
}

/* The thread takes no signals: those are the application's. */
static int lane_start(kv_client *client, kv_lane **result)
{
    sigset_t all, before;
    kv_lane *lane;
    int error = lane_make(client, true, &lane);

    if (error < 0)
        return error;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&lane->thread, NULL, kv_lane_thread, lane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0) {
        client->lane_count--;
        kv_lane_close(lane);
        kv_lane_free(lane);
        return -error;
    }
    client->background_count++;
    *result = lane;
    return 0;
}

int kv_pool_background(kv_client *client, kv_lane **result)
{
    kv_lane *best = NULL;

    for (uint32_t i = 0; i < client->lane_count; i++) {
        kv_lane *lane = client->lanes[i];

        if (lane->background && (!best || lane->load < best->load))
            best = lane;
    }
    if ((!best || best->load > 0) && client->background_count < client->lane_count_max) {
        int error = lane_start(client, result);

        if (error == 0 || !best)
            return error;
    }
    *result = best;
    return 0;
}
