/* One large range of anonymous memory, in the largest pages the system gives.
 *
 * Its pages come on first use, zeroed. A forked child does not inherit it: copying on write would
 * double the memory of a busy parent, and a page that the device is reading into must stay the
 * parent's. A child that touches the range is killed by SIGSEGV. */
#ifndef KV_REGION_H
#define KV_REGION_H

#include <stdbool.h>
#include <stddef.h>

#define KV_REGION_HUGE_PAGE_SIZE 2097152u

typedef enum kv_region_kind {
    KV_REGION_PLAIN = 0,   /* pages of 4 KiB, or whatever the system chooses by itself */
    KV_REGION_ADVISED = 1, /* huge pages were asked for; the system gives them where it can */
    KV_REGION_HUGE = 2     /* reserved huge pages */
} kv_region_kind;

typedef struct kv_region {
    void *memory; /* aligned to KV_REGION_HUGE_PAGE_SIZE unless the kind is plain, then to a page */
    size_t size;  /* at least what was asked for: rounded up to whole pages of its kind */
    size_t huge_size; /* bytes in reserved huge pages: `size`, or 0 */
    kv_region_kind kind;
} kv_region;

/* -ENOMEM when the system refuses, -EINVAL for a size of 0. With `huge_wanted`: reserved huge
 * pages, else advised ones, else plain. On failure `*region` is empty and may be closed. */
int kv_region_open(size_t size, bool huge_wanted, kv_region *region);

/* Give the memory back; closing an empty region does nothing. */
void kv_region_close(kv_region *region);

#endif
