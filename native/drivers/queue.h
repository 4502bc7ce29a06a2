/* Completions on their way to one event loop: tags behind an eventfd (kv_queue of the public interface).
 *
 * A place is reserved before a request is submitted, so that a report never fails and never
 * allocates. Reporters and the reaper may be different threads. */
#ifndef KV_QUEUE_H
#define KV_QUEUE_H

#include "kvcore.h"

/* Before a request goes out. -ENOMEM. */
int kv_queue_reserve(kv_queue *queue);
/* It was not submitted after all. */
void kv_queue_release(kv_queue *queue);
/* It is done: its tag can be reaped. The queue may be gone when this returns. */
void kv_queue_report(kv_queue *queue, uint64_t tag);

#endif
