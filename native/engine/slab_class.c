/* The ladder of slab classes: 64 bytes x 1 ... 8, then eight steps to each doubling up to 8 MiB.
 * Pure arithmetic. A size above 512 bytes is rounded up by at most 1/8 of itself, a smaller one by
 * less than 64 bytes. Which classes an allocator uses is its own business. */

#include "engine/slab_core.h"

#include <assert.h>

/* Classes below this one are plain multiples of the unit. */
#define LINEAR_COUNT 8u
#define STEPS_PER_DOUBLING 8u
#define LINEAR_SIZE_LOG2 9 /* the last linear class has 512 bytes */
#define CLASS_SIZE_MAX (8u << 20)

_Static_assert(LINEAR_COUNT * KV_SLAB_UNIT == 1u << LINEAR_SIZE_LOG2, "the ladder has no gap");
_Static_assert(KV_SLAB_CLASS_COUNT <= KV_SLAB_CLASS_NONE, "class numbers fit into a byte");

uint32_t kv_slab_class_size(uint32_t slab_class)
{
    uint32_t doubling, step;

    if (slab_class >= KV_SLAB_CLASS_COUNT)
        return 0;
    if (slab_class < LINEAR_COUNT)
        return KV_SLAB_UNIT * (slab_class + 1);

    doubling = (slab_class - LINEAR_COUNT) / STEPS_PER_DOUBLING;
    step = (slab_class - LINEAR_COUNT) % STEPS_PER_DOUBLING + 1;
    return KV_SLAB_UNIT * (STEPS_PER_DOUBLING + step) << doubling;
}

uint32_t kv_slab_class_of(uint32_t size)
{
    uint32_t below, log2, step;

    if (size > CLASS_SIZE_MAX)
        return KV_SLAB_CLASS_NONE;
    if (size <= LINEAR_COUNT * KV_SLAB_UNIT)
        return size ? (size - 1) / KV_SLAB_UNIT : 0;

    /* A size that is exactly a class belongs to it, so the step is that of the byte before. */
    below = size - 1;
    log2 = 31 - (uint32_t)__builtin_clz(below);
    step = (below - (1u << log2)) >> (log2 - 3);
    assert(log2 >= LINEAR_SIZE_LOG2);
    assert(step < STEPS_PER_DOUBLING);
    return LINEAR_COUNT + (log2 - LINEAR_SIZE_LOG2) * STEPS_PER_DOUBLING + step;
}
