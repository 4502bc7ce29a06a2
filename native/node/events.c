/* See events.h. */

#include "node/events.h"

#include "node/node_limits.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int kv_events_open(kv_events *events)
{
    *events = (kv_events){.descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    if (events->descriptor < 0)
        return -errno;
    events->ring = calloc(KV_NODE_EVENTS_MAX, sizeof(*events->ring));
    if (!events->ring) {
        close(events->descriptor);
        return -ENOMEM;
    }
    pthread_mutex_init(&events->mutex, NULL);
    return 0;
}

void kv_events_close(kv_events *events)
{
    pthread_mutex_destroy(&events->mutex);
    free(events->ring);
    close(events->descriptor);
}

/* Locked: a place at the end, for which the oldest event may have to go. */
static kv_node_event *place(kv_events *events)
{
    uint32_t position;

    if (events->count == KV_NODE_EVENTS_MAX) {
        events->first = (events->first + 1) % KV_NODE_EVENTS_MAX;
        events->count--;
        events->dropped++;
    }
    position = (events->first + events->count) % KV_NODE_EVENTS_MAX;
    events->count++;
    return &events->ring[position];
}

void kv_events_report(kv_events *events, kv_node_event_kind kind, int error, uint64_t connection,
                      const char *format, ...)
{
    kv_node_event *event;
    struct timespec now;
    uint64_t one = 1;
    va_list arguments;

    assert(kind < KV_EVENT_KIND_COUNT);
    clock_gettime(CLOCK_REALTIME, &now);
    pthread_mutex_lock(&events->mutex);
    events->counts[kind]++;
    event = place(events);
    event->time_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    event->kind = kind;
    event->error = error;
    event->connection = connection;
    va_start(arguments, format);
    vsnprintf(event->text, sizeof(event->text), format, arguments);
    va_end(arguments);
    if (events->count == 1 && write(events->descriptor, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN); /* the counter is full: readable anyway */
    pthread_mutex_unlock(&events->mutex);
}

int kv_events_take(kv_events *events, kv_node_event *taken, int max)
{
    uint64_t count;
    int result = 0;

    pthread_mutex_lock(&events->mutex);
    while (result < max && events->count > 0) {
        taken[result++] = events->ring[events->first];
        events->first = (events->first + 1) % KV_NODE_EVENTS_MAX;
        events->count--;
    }
    if (events->count == 0 && read(events->descriptor, &count, sizeof(count)) < 0)
        assert(errno == EAGAIN);
    pthread_mutex_unlock(&events->mutex);
    return result;
}

void kv_events_sum(kv_events *events, kv_node_statistics *statistics)
{
    pthread_mutex_lock(&events->mutex);
    for (uint32_t i = 0; i < KV_EVENT_KIND_COUNT; i++)
        statistics->events[i] += events->counts[i];
    statistics->events_dropped += events->dropped;
    pthread_mutex_unlock(&events->mutex);
}
