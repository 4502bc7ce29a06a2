/* Memory registered with a ring, which spares the kernel pinning it for every operation.
 *
 * Memory is given in regions and registered in segments, each when an operation first touches it,
 * because registering also makes its pages present. A segment that the kernel refuses is used
 * unregistered from then on: registration is a saving, never a condition. */
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
    pthread_mutex_t lock;        /* over registering; finding takes none */
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
/* Register the segments that [base, base + size) touches, those not tried yet. */
void kv_uring_memory_prepare(kv_uring_memory *memory, kv_uring *ring, const void *base,
                             size_t size);
/* The registered segment that the whole of [base, base + size) lies in, or -1. */
int kv_uring_memory_find(kv_uring_memory *memory, const void *base, size_t size);

/* Segments that are registered. */
uint32_t kv_uring_memory_registered(kv_uring_memory *memory);

/* Unpin everything, so that the owner may unmap it at once. */
void kv_uring_memory_release(kv_uring_memory *memory, kv_uring *ring);
/* Register nothing from now on, as if the kernel refused. */
void kv_uring_memory_refuse(kv_uring_memory *memory);

#endif
