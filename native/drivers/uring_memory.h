/* Memory registered with a ring, which spares the kernel pinning it for every operation.
 *
 *   UNTRIED ──an operation touches it──► WANTED ──► REGISTERED, or REFUSED
 *      └─────one before it is used────► AHEAD ──an operation touches it──► USED ──► REGISTERED
 *
 * Memory is given in regions and registered in segments, each once an operation has touched it or
 * the one before it. Fresh pages may take long to become present, tens of milliseconds for a few
 * megabytes on a virtual machine, and registering holds up whoever uses the ring: so a thread of its
 * own makes the pages present first, ahead of use, and operations go by unregistered memory
 * meanwhile. What the kernel refuses is used unregistered from then on: registration is a saving,
 * never a condition. */
#ifndef KV_URING_MEMORY_H
#define KV_URING_MEMORY_H

#include "drivers/uring.h"

#include <pthread.h>
#include <stdatomic.h>

#define KV_URING_REGIONS_MAX 8u
#define KV_URING_SEGMENTS_MAX 16384u         /* of all regions; the kernel's limit */
#define KV_URING_SEGMENT_SIZE_MAX (1u << 30) /* the kernel's limit */

typedef struct kv_uring_region {
    uint8_t *memory;
    size_t size;
    size_t segment_size;
    uint32_t first; /* segment in the table */
    uint32_t count;
} kv_uring_region;

typedef struct kv_uring_memory {
    pthread_mutex_t lock;        /* over adding regions, and all waiting; finding takes none */
    pthread_cond_t changed;      /* a segment is wanted, or none is any more */
    pthread_t thread;
    bool started;
    bool stopping;
    bool asked;                  /* segments may be wanted that the thread has not seen */
    bool resting;                /* it found nothing to do */
    kv_uring *ring;
    atomic_uint region_count;    /* entries of `regions` below it never change */
    uint32_t segment_count;
    atomic_bool exhausted;       /* the kernel pins no more for us */
    atomic_uchar *states;        /* for each segment; NULL until the first region */
    kv_uring_region regions[KV_URING_REGIONS_MAX];
} kv_uring_memory;

void kv_uring_memory_init(kv_uring_memory *memory);
/* The registrations themselves end with the ring or by kv_uring_memory_release. */
void kv_uring_memory_close(kv_uring_memory *memory);

/* Add a region. -EINVAL, -ENOSPC (too many regions), -ENOMEM or what the kernel answers where it
 * has no such registration; the region is then used unregistered. */
int kv_uring_memory_add(kv_uring_memory *memory, kv_uring *ring, void *base, size_t size,
                        size_t segment_size);
/* Have the segments registered that [base, base + size) touches, those not tried yet, soon. */
void kv_uring_memory_prepare(kv_uring_memory *memory, const void *base, size_t size);
/* The registered segment that the whole of [base, base + size) lies in, or -1. */
int kv_uring_memory_find(kv_uring_memory *memory, const void *base, size_t size);

/* Wait until every segment that was wanted has been tried. */
void kv_uring_memory_settle(kv_uring_memory *memory);
/* Segments that are registered. */
uint32_t kv_uring_memory_registered(kv_uring_memory *memory);

/* End the thread, and unpin everything, so that the owner may unmap it at once. */
void kv_uring_memory_release(kv_uring_memory *memory, kv_uring *ring);
/* Register nothing from now on, as if the kernel refused. */
void kv_uring_memory_refuse(kv_uring_memory *memory);

#endif
