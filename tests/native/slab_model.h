/* What the slab tests share: a seeded generator, an allocator with plain options, and a naive model
 * of the space, one byte for each KV_SLAB_UNIT, which notices any overlap. */
#ifndef KV_SLAB_MODEL_H
#define KV_SLAB_MODEL_H

#include "engine/slab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define KIB 1024u
#define MIB (1024u * KIB)

typedef struct slab_model {
    uint8_t *units; /* 1: live */
    uint64_t unit_count;
    uint64_t live_size;
} slab_model;

static inline uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

static inline kv_slab_allocator *open_slabs(uint32_t slab_size, uint32_t slab_count,
    uint32_t alignment)
{
    kv_slab_options options = {slab_size, slab_count, alignment, slab_size / 8};
    kv_slab_allocator *allocator;

    assert(kv_slab_open(&options, &allocator) == 0);
    return allocator;
}

static inline kv_extent allocate_one(kv_slab_allocator *allocator, uint32_t size)
{
    kv_extent pieces[KV_SLAB_PIECES_MAX];

    assert(kv_slab_allocate_ideal(allocator, size, pieces) == 1);
    return pieces[0];
}

static inline slab_model slab_model_open(const kv_slab_allocator *allocator)
{
    slab_model model = {.unit_count = kv_slab_space_size(allocator) / KV_SLAB_UNIT};

    model.units = calloc(model.unit_count, 1);
    assert(model.units);
    return model;
}

/* Every unit of the extent must change from `before` to the opposite. */
static inline void slab_model_flip(slab_model *model, const kv_extent *extent, uint8_t before)
{
    uint64_t first = extent->offset / KV_SLAB_UNIT;

    assert(extent->offset % KV_SLAB_UNIT == 0 && extent->size % KV_SLAB_UNIT == 0);
    assert(first + extent->size / KV_SLAB_UNIT <= model->unit_count);
    for (uint64_t unit = first; unit < first + extent->size / KV_SLAB_UNIT; unit++) {
        assert(model->units[unit] == before);
        model->units[unit] = !before;
    }
    model->live_size += before ? -(uint64_t)extent->size : (uint64_t)extent->size;
}

#endif
