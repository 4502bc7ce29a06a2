#include "bytes/region.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define HUGE KV_REGION_HUGE_PAGE_SIZE

static void check_kind(const kv_region *region)
{
    size_t unit = region->kind == KV_REGION_PLAIN ? 4096 : HUGE;

    assert((uintptr_t)region->memory % unit == 0);
    assert(region->size % unit == 0);
    assert(region->huge_size == (region->kind == KV_REGION_HUGE ? region->size : 0));
}

static void a_plain_region_is_rounded_to_pages_and_zeroed(void)
{
    kv_region region;
    const uint8_t *bytes;

    assert(kv_region_open(10000, false, &region) == 0);

    check_kind(&region);
    assert(region.kind == KV_REGION_PLAIN && region.size == 12288);
    bytes = region.memory;
    for (size_t i = 0; i < region.size; i++)
        assert(bytes[i] == 0);
    kv_region_close(&region);
}

static void a_huge_region_is_aligned_whatever_its_kind(void)
{
    static const size_t sizes[] = {1, HUGE - 1, HUGE, HUGE + 1, 3 * (size_t)HUGE + 4096};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        kv_region region;

        assert(kv_region_open(sizes[i], true, &region) == 0);
        check_kind(&region);
        assert(region.size >= sizes[i]);
        memset(region.memory, 0xA5, region.size);
        kv_region_close(&region);
    }
}

static void pages_come_on_first_use(void)
{
    kv_region region;
    unsigned char present[16];

    assert(kv_region_open(16 * 4096, false, &region) == 0);
    *(volatile uint8_t *)region.memory = 1;

    assert(mincore(region.memory, region.size, present) == 0);
    assert((present[0] & 1) == 1);
    assert((present[15] & 1) == 0);
    kv_region_close(&region);
}

static void an_empty_size_is_refused(void)
{
    kv_region region;

    assert(kv_region_open(0, true, &region) == -EINVAL);
    assert(region.memory == NULL && region.size == 0);
    kv_region_close(&region);
}

static void more_than_the_address_space_is_refused(void)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - HUGE, SIZE_MAX / 2};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        kv_region region;

        assert(kv_region_open(sizes[i], true, &region) == -ENOMEM);
        assert(region.memory == NULL);
        assert(kv_region_open(sizes[i], false, &region) == -ENOMEM);
        kv_region_close(&region);
    }
}

static void a_closed_region_is_empty_and_closes_again(void)
{
    kv_region region;

    assert(kv_region_open(4096, true, &region) == 0);
    kv_region_close(&region);
    assert(region.memory == NULL && region.size == 0 && region.huge_size == 0);
    kv_region_close(&region);
}

static void a_forked_child_does_not_inherit_it(void)
{
    kv_region region;
    unsigned char present[1];
    int status;
    pid_t child;

    assert(kv_region_open(4096, false, &region) == 0);
    *(volatile uint8_t *)region.memory = 1;

    child = fork();
    if (child == 0)
        _exit(mincore(region.memory, 4096, present) == -1 && errno == ENOMEM ? 0 : 1);
    assert(waitpid(child, &status, 0) == child);
    assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert(*(volatile uint8_t *)region.memory == 1);
    kv_region_close(&region);
}

int main(void)
{
    a_plain_region_is_rounded_to_pages_and_zeroed();
    a_huge_region_is_aligned_whatever_its_kind();
    pages_come_on_first_use();
    an_empty_size_is_refused();
    more_than_the_address_space_is_refused();
    a_closed_region_is_empty_and_closes_again();
    a_forked_child_does_not_inherit_it();
}
