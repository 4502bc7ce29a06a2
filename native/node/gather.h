/* Ranges of bytes that one system call is to send, built from their beginning each time: what was
 * sent already is passed over. */
#ifndef KV_GATHER_H
#define KV_GATHER_H

#include "drivers/reactor.h"

typedef struct kv_ranges {
    struct iovec *at;
    uint32_t count;
    uint64_t skip; /* bytes of what comes next that were sent already */
    uint64_t size;
} kv_ranges;

static inline void kv_ranges_add(kv_ranges *ranges, const void *bytes, uint64_t size)
{
    if (ranges->skip >= size) {
        ranges->skip -= size;
        return;
    }
    if (ranges->count == KV_REACTOR_IOVEC_MAX)
        return;
    ranges->at[ranges->count++] =
        (struct iovec){.iov_base = (uint8_t *)(uintptr_t)bytes + ranges->skip,
                       .iov_len = size - ranges->skip};
    ranges->size += size - ranges->skip;
    ranges->skip = 0;
}

static inline bool kv_ranges_full(const kv_ranges *ranges)
{
    return ranges->count == KV_REACTOR_IOVEC_MAX;
}

#endif
