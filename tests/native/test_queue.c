/* Completions: places are reserved, tags come out in order, and the descriptor is readable exactly while there are some. */

#include "drivers/queue.h"

#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>

#define MANY 1000u

static bool readable(int descriptor)
{
    struct pollfd poller = {.fd = descriptor, .events = POLLIN};

    return poll(&poller, 1, 0) == 1;
}

static void tags_come_out_in_order_and_quieten_the_descriptor(void)
{
    kv_queue *queue;
    uint64_t tags[3];
    int descriptor;

    assert(kv_queue_open(&queue, &descriptor) == 0);
    assert(!readable(descriptor));
    for (uint64_t tag = 1; tag <= 4; tag++) {
        assert(kv_queue_reserve(queue) == 0);
        kv_queue_report(queue, tag);
    }

    assert(readable(descriptor));
    assert(kv_queue_reap(queue, tags, 3) == 3 && tags[0] == 1 && tags[2] == 3);
    assert(readable(descriptor));
    assert(kv_queue_reap(queue, tags, 3) == 1 && tags[0] == 4);
    assert(!readable(descriptor));
    assert(kv_queue_reap(queue, tags, 3) == 0);
    kv_queue_close(queue);
}

static void a_released_place_needs_no_reaping(void)
{
    kv_queue *queue;
    int descriptor;

    assert(kv_queue_open(&queue, &descriptor) == 0);
    assert(kv_queue_reserve(queue) == 0);
    kv_queue_release(queue);
    kv_queue_close(queue);
}

static void *report_many(void *argument)
{
    for (uint64_t tag = 0; tag < MANY; tag++) {
        assert(kv_queue_reserve(argument) == 0);
        kv_queue_report(argument, tag);
    }
    return NULL;
}

static void threads_report_while_another_reaps(void)
{
    kv_queue *queue;
    pthread_t threads[2];
    uint64_t tags[7];
    uint32_t counts[MANY] = {0};
    uint32_t reaped = 0;
    int descriptor;

    assert(kv_queue_open(&queue, &descriptor) == 0);
    for (int i = 0; i < 2; i++)
        assert(pthread_create(&threads[i], NULL, report_many, queue) == 0);
    while (reaped < 2 * MANY) {
        struct pollfd poller = {.fd = descriptor, .events = POLLIN};
        int count;

        assert(poll(&poller, 1, 10000) == 1);
        count = kv_queue_reap(queue, tags, 7);
        for (int i = 0; i < count; i++)
            counts[tags[i]]++;
        reaped += (uint32_t)count;
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t tag = 0; tag < MANY; tag++)
        assert(counts[tag] == 2);
    kv_queue_close(queue);
}

int main(void)
{
    tags_come_out_in_order_and_quieten_the_descriptor();
    a_released_place_needs_no_reaping();
    threads_report_while_another_reaps();
    return 0;
}
