/* The limits that work of one thread in memory is measured against: memcpy, value by value, and a
 * look at every cache line. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LINE_SIZE 64

void bench_copy(const uint64_t *targets, const uint64_t *sources, unsigned count, size_t size);
uint64_t bench_look(const void *data, size_t size);

void bench_copy(const uint64_t *targets, const uint64_t *sources, unsigned count, size_t size)
{
    for (unsigned i = 0; i < count; i++)
        memcpy((void *)(uintptr_t)targets[i], (const void *)(uintptr_t)sources[i], size);
}

uint64_t bench_look(const void *data, size_t size)
{
    const volatile uint64_t *words = data;
    uint64_t sum = 0;

    for (size_t at = 0; at + LINE_SIZE <= size; at += LINE_SIZE)
        sum += words[at / sizeof(*words)];
    return sum;
}
