/* What happened to connections and targets, for whoever writes logs: a bounded ring behind an
 * eventfd.
 *
 * Reporting never blocks and never fails: when nobody takes events, the oldest make room and are
 * counted. The descriptor is readable exactly while there are events. Any thread. */
#ifndef KV_EVENTS_H
#define KV_EVENTS_H

#include "kvcore.h"

#include <pthread.h>

typedef struct kv_events {
    pthread_mutex_t mutex;
    int descriptor;
    kv_node_event *ring;
    uint32_t first;
    uint32_t count;
    uint64_t counts[KV_EVENT_KIND_COUNT];
    uint64_t dropped;
} kv_events;

int kv_events_open(kv_events *events);
void kv_events_close(kv_events *events);
void kv_events_report(kv_events *events, kv_node_event_kind kind, int error, uint64_t connection,
                      const char *format, ...) __attribute__((format(printf, 5, 6)));
int kv_events_take(kv_events *events, kv_node_event *taken, int max);
void kv_events_sum(kv_events *events, kv_node_statistics *statistics);

#endif
