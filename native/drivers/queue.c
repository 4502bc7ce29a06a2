/* See queue.h. The eventfd is readable exactly while there are tags: it is written with the first one
 * and read with the last, both under the lock. */

#include "drivers/queue.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define QUEUE_CAPACITY_FIRST 64u

struct kv_queue {
    pthread_mutex_t mutex;
    int descriptor;
    uint64_t *tags;
    uint32_t count;
    uint32_t capacity;
    uint32_t outstanding; /* reserved or reported, and not reaped; at most the capacity */
};

int kv_queue_open(kv_queue **result, int *descriptor)
{
    kv_queue *queue = calloc(1, sizeof(*queue));

    if (!queue)
        return -ENOMEM;
    queue->descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (queue->descriptor < 0) {
        int error = -errno;

        free(queue);
        return error;
    }
    pthread_mutex_init(&queue->mutex, NULL);
    *descriptor = queue->descriptor;
    *result = queue;
    return 0;
}

/* Locked. */
static int make_room(kv_queue *queue)
{
    uint32_t capacity = queue->capacity ? queue->capacity * 2 : QUEUE_CAPACITY_FIRST;
    uint64_t *tags;

    if (queue->outstanding < queue->capacity)
        return 0;
    tags = realloc(queue->tags, capacity * sizeof(*tags));
    if (!tags)
        return -ENOMEM;
    queue->tags = tags;
    queue->capacity = capacity;
    return 0;
}

int kv_queue_reserve(kv_queue *queue)
{
    int error;

    pthread_mutex_lock(&queue->mutex);
    error = make_room(queue);
    if (error == 0)
        queue->outstanding++;
    pthread_mutex_unlock(&queue->mutex);
    return error;
}

void kv_queue_release(kv_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    assert(queue->outstanding > queue->count);
    queue->outstanding--;
    pthread_mutex_unlock(&queue->mutex);
}

void kv_queue_report(kv_queue *queue, uint64_t tag)
{
    uint64_t one = 1;

    pthread_mutex_lock(&queue->mutex);
    assert(queue->count < queue->outstanding);
    queue->tags[queue->count++] = tag;
    if (queue->count == 1 && write(queue->descriptor, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN); /* the counter is full: readable anyway */
    pthread_mutex_unlock(&queue->mutex);
}

int kv_queue_reap(kv_queue *queue, uint64_t *tags, uint32_t max)
{
    uint64_t events;
    uint32_t count;

    pthread_mutex_lock(&queue->mutex);
    count = queue->count < max ? queue->count : max;
    if (count > 0) { /* before the first request there is no array */
        memcpy(tags, queue->tags, count * sizeof(*tags));
        memmove(queue->tags, queue->tags + count, (queue->count - count) * sizeof(*tags));
    }
    queue->count -= count;
    queue->outstanding -= count;
    /* With some left the descriptor stays readable. */
    if (queue->count == 0 && read(queue->descriptor, &events, sizeof(events)) < 0)
        assert(errno == EAGAIN);
    pthread_mutex_unlock(&queue->mutex);
    return (int)count;
}

void kv_queue_close(kv_queue *queue)
{
    assert(queue->outstanding == 0);
    pthread_mutex_destroy(&queue->mutex);
    close(queue->descriptor);
    free(queue->tags);
    free(queue);
}
