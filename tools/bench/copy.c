/* The limit that reads from memory are measured against: memcpy, value by value, on one thread. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

void bench_copy(const uint64_t *targets, const uint64_t *sources, unsigned count, size_t size);

void bench_copy(const uint64_t *targets, const uint64_t *sources, unsigned count, size_t size)
{
    for (unsigned i = 0; i < count; i++)
        memcpy((void *)(uintptr_t)targets[i], (const void *)(uintptr_t)sources[i], size);
}
