/* Memory that callers registered for transfer without a copy in between. */

#include "engine/engine_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Index of the first region that ends behind `address`. */
static uint32_t region_search(const kv_engine *engine, uint64_t address)
{
    uint32_t low = 0;
    uint32_t high = engine->region_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const kv_caller_region *region = &engine->regions[middle];

        if (region->address + region->size <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool kv_engine_registered(const kv_engine *engine, uint64_t address, uint64_t size)
{
    uint32_t i = region_search(engine, address);
    const kv_caller_region *region = &engine->regions[i];

    return i < engine->region_count && address >= region->address &&
           size <= region->address + region->size - address;
}

static int region_insert(kv_engine *engine, uint64_t address, uint64_t size)
{
    uint32_t i = region_search(engine, address);
    kv_caller_region *regions;

    if (i < engine->region_count && engine->regions[i].address < address + size)
        return -EEXIST;
    if (engine->region_count == KV_REGIONS_MAX)
        return -ENOSPC;
    regions = realloc(engine->regions, (engine->region_count + 1) * sizeof(*regions));
    if (!regions)
        return -ENOMEM;
    memmove(&regions[i + 1], &regions[i], (engine->region_count - i) * sizeof(*regions));
    regions[i] = (kv_caller_region){.address = address, .size = size};
    engine->regions = regions;
    engine->region_count++;
    return 0;
}

int kv_engine_register(kv_engine *engine, uint64_t address, uint64_t size)
{
    int result;

    if (address == 0 || size == 0 || address + size < address)
        return -EINVAL;
    pthread_mutex_lock(&engine->lock);
    result = region_insert(engine, address, size);
    pthread_mutex_unlock(&engine->lock);
    return result;
}

int kv_engine_unregister(kv_engine *engine, uint64_t address)
{
    int result = -ENOENT;
    uint32_t i;

    pthread_mutex_lock(&engine->lock);
    i = region_search(engine, address);
    if (engine->direct_count > 0) {
        result = -EBUSY;
    } else if (i < engine->region_count && engine->regions[i].address == address) {
        engine->region_count--;
        memmove(&engine->regions[i], &engine->regions[i + 1],
                (engine->region_count - i) * sizeof(*engine->regions));
        result = 0;
    }
    pthread_mutex_unlock(&engine->lock);
    return result;
}
