/* Large anonymous memory: tries reserved huge pages, then advised ones, then plain pages. It
 * guarantees the alignment and the kind that it reports; when pages are touched is the caller's. */
#include "bytes/region.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB (21 << 26)
#endif

static void *region_map(size_t size, int flags)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1,
                        0);

    return memory == MAP_FAILED ? NULL : memory;
}

/* Round up; 0 when the result does not fit. */
static size_t round_up(size_t size, size_t unit)
{
    assert((unit & (unit - 1)) == 0);
    return size > SIZE_MAX - (unit - 1) ? 0 : (size + unit - 1) & ~(unit - 1);
}

/* Map with room to align, then give the ends back. */
static void *region_map_aligned(size_t size)
{
    size_t room = KV_REGION_HUGE_PAGE_SIZE;
    uint8_t *memory;
    size_t before;

    if (size > SIZE_MAX - room)
        return NULL;
    memory = region_map(size + room, 0);
    if (memory == NULL)
        return NULL;
    before = (room - ((uintptr_t)memory & (room - 1))) & (room - 1);
    if (before > 0)
        munmap(memory, before);
    munmap(memory + before + size, room - before);
    return memory + before;
}

static bool region_open_huge(size_t size, kv_region *region)
{
    region->memory = region_map(size, MAP_HUGETLB | MAP_HUGE_2MB);
    if (region->memory == NULL)
        return false;
    *region = (kv_region){region->memory, size, size, KV_REGION_HUGE};
    return true;
}

static bool region_open_advised(size_t size, kv_region *region)
{
    void *memory = region_map_aligned(size);

    if (memory == NULL)
        return false;
    if (madvise(memory, size, MADV_HUGEPAGE) != 0) {
        munmap(memory, size);
        return false;
    }
    *region = (kv_region){memory, size, 0, KV_REGION_ADVISED};
    return true;
}

static bool region_open_plain(size_t size, kv_region *region)
{
    void *memory = region_map(size, 0);

    if (memory == NULL)
        return false;
    *region = (kv_region){memory, size, 0, KV_REGION_PLAIN};
    return true;
}

int kv_region_open(size_t size, bool huge_wanted, kv_region *region)
{
    size_t huge_rounded = round_up(size, KV_REGION_HUGE_PAGE_SIZE);
    size_t rounded = round_up(size, (size_t)sysconf(_SC_PAGESIZE));
    bool opened = false;

    assert(region != NULL);
    *region = (kv_region){NULL, 0, 0, KV_REGION_PLAIN};
    if (size == 0)
        return -EINVAL;
    if (huge_wanted && huge_rounded > 0)
        opened = region_open_huge(huge_rounded, region) ||
                 region_open_advised(huge_rounded, region);
    if (!opened && rounded > 0)
        opened = region_open_plain(rounded, region);
    if (!opened)
        return -ENOMEM;

    if (madvise(region->memory, region->size, MADV_DONTFORK) != 0) {
        kv_region_close(region);
        return -ENOMEM;
    }
    return 0;
}

void kv_region_close(kv_region *region)
{
    assert(region != NULL);
    if (region->memory != NULL)
        munmap(region->memory, region->size);
    *region = (kv_region){NULL, 0, 0, KV_REGION_PLAIN};
}
