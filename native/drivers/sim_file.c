/* One simulated file. Reads see `bytes`, where every completed write has taken effect; a write that
 * is not durable keeps what it replaced, so nothing is ever copied but what was written.
 *
 *   bytes      [durable][w1    ][w3 ][w2     ]      in memory, as reads see them
 *   unflushed   w1 { what it replaced }  w2 { ... }  w3 { ... }      in the order of completion
 *   in flight   w4 { what it writes }
 *
 * Invariants:
 * 1. A write's bytes and the file's are exchanged when it completes. To exchange all unflushed ones
 *    back, newest first, gives the durable bytes, and gives each write its own bytes again.
 * 2. A flush drops writes from the front of `unflushed` only, so 1 holds after it. */

#include "drivers/sim_file.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* One crash in six is of each sort: bugs hide where all but one write survive, or only one does,
 * and even odds alone would hardly ever show that. */
static const kv_sim_odds crash_odds[] = {
    {.kept = 1, .lost = 1, .torn = 1}, {.kept = 8, .lost = 1, .torn = 1},
    {.kept = 1, .lost = 8, .torn = 1}, {.kept = 1, .lost = 1, .torn = 8},
    {.kept = 1, .lost = 0, .torn = 0}, {.kept = 0, .lost = 1, .torn = 0},
};

static const kv_sim_odds failure_odds = {.kept = 1, .lost = 1, .torn = 1};

const kv_sim_odds *kv_sim_odds_draw(kv_random *random)
{
    return &crash_odds[kv_random_below(random, sizeof(crash_odds) / sizeof(crash_odds[0]))];
}

void kv_sim_file_init(kv_sim_file *file, bool tear_bytes, bool lose_reserves)
{
    memset(file, 0, sizeof(*file));
    kv_list_init(&file->in_flight);
    kv_list_init(&file->unflushed);
    for (uint32_t i = 0; i < KV_SIM_SPARE_COUNT; i++)
        kv_list_init(&file->spare[i]);
    file->tear_bytes = tear_bytes;
    file->lose_reserves = lose_reserves;
}

static kv_sim_write *write_of(kv_list *link)
{
    return KV_CONTAINER(link, kv_sim_write, link);
}

static uint32_t spare_index(uint32_t size)
{
    uint32_t index = 0;

    while (((uint64_t)KV_SIM_PAGE_SIZE << index) < size)
        index++;
    assert(index < KV_SIM_SPARE_COUNT);
    return index;
}

static kv_sim_write *write_open(kv_sim_file *file, uint64_t offset, uint32_t size,
                                const void *bytes)
{
    uint32_t index = spare_index(size);
    kv_list *link = kv_list_pop(&file->spare[index]);
    kv_sim_write *write;

    if (link != NULL)
        write = write_of(link);
    else
        write = malloc(sizeof(*write) + ((size_t)KV_SIM_PAGE_SIZE << index));
    if (write == NULL)
        return NULL;
    kv_list_init(&write->link);
    write->offset = offset;
    write->size = size;
    write->place = 0;
    memcpy(write->bytes, bytes, size);
    return write;
}

/* Before the first of its list: what was used last is taken next, while it is in the cache. */
static void write_close(kv_sim_file *file, kv_sim_write *write)
{
    kv_list_append(file->spare[spare_index(write->size)].next, &write->link);
}

static void close_writes(kv_sim_file *file, kv_list *writes)
{
    kv_list *link;

    while ((link = kv_list_pop(writes)) != NULL)
        write_close(file, write_of(link));
}

void kv_sim_file_reset(kv_sim_file *file)
{
    close_writes(file, &file->in_flight);
    close_writes(file, &file->unflushed);
    if (file->touched > 0)
        memset(file->bytes, 0, file->touched);
    file->size = 0;
    file->size_durable = 0;
    file->touched = 0;
    file->completed = 0;
    file->flush_failed = false;
}

void kv_sim_file_close(kv_sim_file *file)
{
    kv_list *link;

    close_writes(file, &file->in_flight);
    close_writes(file, &file->unflushed);
    for (uint32_t i = 0; i < KV_SIM_SPARE_COUNT; i++)
        while ((link = kv_list_pop(&file->spare[i])) != NULL)
            free(write_of(link));
    if (file->bytes != NULL)
        munmap(file->bytes, file->size_mapped);
}

static int copy_writes(kv_sim_file *file, kv_list *writes, const kv_list *source)
{
    for (kv_list *link = source->next; link != source; link = link->next) {
        const kv_sim_write *write = write_of(link);
        kv_sim_write *copy = write_open(file, write->offset, write->size, write->bytes);

        if (copy == NULL)
            return -ENOMEM;
        copy->place = write->place;
        kv_list_append(writes, &copy->link);
    }
    return 0;
}

int kv_sim_file_copy(kv_sim_file *file, const kv_sim_file *source)
{
    int error = 0;

    assert(file->size == 0 && file->touched == 0);
    if (source->size > 0)
        error = kv_sim_file_grow(file, source->size);
    if (error == 0)
        error = copy_writes(file, &file->in_flight, &source->in_flight);
    if (error == 0)
        error = copy_writes(file, &file->unflushed, &source->unflushed);
    if (error != 0)
        return error;
    if (source->touched > 0)
        memcpy(file->bytes, source->bytes, source->touched);
    file->touched = source->touched;
    file->size_durable = source->size_durable;
    file->completed = source->completed;
    return 0;
}

/* Mapped, not allocated: bytes that nobody has written cost nothing. */
static void *map(void *old, uint64_t size_old, uint64_t size)
{
    if (old != NULL)
        return mremap(old, size_old, size, MREMAP_MAYMOVE);
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0);
}

int kv_sim_file_grow(kv_sim_file *file, uint64_t size)
{
    assert(size > file->size);
    if (size > file->size_mapped) {
        uint64_t rounded = (size + KV_SIM_PAGE_SIZE - 1) & ~(uint64_t)(KV_SIM_PAGE_SIZE - 1);
        void *bytes = map(file->bytes, file->size_mapped, rounded);

        if (bytes == MAP_FAILED)
            return -ENOMEM;
        file->bytes = bytes;
        file->size_mapped = rounded;
    }
    file->size = size;
    if (!file->lose_reserves)
        file->size_durable = size;
    return 0;
}

bool kv_sim_file_holds(const kv_sim_file *file, uint64_t offset, uint64_t size)
{
    return offset <= file->size && size <= file->size - offset;
}

uint8_t *kv_sim_file_bytes(kv_sim_file *file)
{
    file->touched = file->size;
    return file->bytes;
}

kv_sim_write *kv_sim_file_begin(kv_sim_file *file, uint64_t offset, uint32_t size,
                                const void *memory)
{
    kv_sim_write *write = write_open(file, offset, size, memory);

    assert(kv_sim_file_holds(file, offset, size));
    if (write != NULL)
        kv_list_append(&file->in_flight, &write->link);
    return write;
}

static void exchange(kv_sim_file *file, kv_sim_write *write)
{
    uint8_t spare[KV_SIM_PAGE_SIZE];

    for (uint32_t done = 0; done < write->size; done += KV_SIM_PAGE_SIZE) {
        uint8_t *stored = file->bytes + write->offset + done;

        memcpy(spare, stored, KV_SIM_PAGE_SIZE);
        memcpy(stored, write->bytes + done, KV_SIM_PAGE_SIZE);
        memcpy(write->bytes + done, spare, KV_SIM_PAGE_SIZE);
    }
}

void kv_sim_file_complete(kv_sim_file *file, kv_sim_write *write)
{
    assert(write->place == 0);
    kv_list_remove(&write->link);
    write->place = ++file->completed;
    exchange(file, write);
    if (write->offset + write->size > file->touched)
        file->touched = write->offset + write->size;
    kv_list_append(&file->unflushed, &write->link);
}

/* A run of units, or all but a run, or any of them: prefixes, suffixes, holes and single
 * sectors are what a check of "first and last" or "header only" would miss. */
static void tear(const kv_sim_file *file, kv_sim_write *write, uint32_t unit, kv_random *random)
{
    uint32_t count = write->size / unit;
    uint32_t first = (uint32_t)kv_random_below(random, count);
    uint32_t end = first + 1 + (uint32_t)kv_random_below(random, count - first);
    bool scattered = kv_random_one_in(random, 2);
    bool run_lost = kv_random_one_in(random, 2);

    for (uint32_t i = 0; i < count; i++) {
        bool lost = scattered ? kv_random_one_in(random, 2) : (i >= first && i < end) == run_lost;
        uint32_t at = i * unit;

        if (lost)
            memcpy(write->bytes + at, file->bytes + write->offset + at, unit);
    }
}

/* One sector in four loses a run of its bytes. */
static void tear_sectors(const kv_sim_file *file, kv_sim_write *write, kv_random *random)
{
    for (uint32_t at = 0; at < write->size; at += KV_SIM_SECTOR_SIZE) {
        uint32_t first = (uint32_t)kv_random_below(random, KV_SIM_SECTOR_SIZE);
        uint32_t count = 1 + (uint32_t)kv_random_below(random, KV_SIM_SECTOR_SIZE - first);

        if (kv_random_one_in(random, 4))
            memcpy(write->bytes + at + first, file->bytes + write->offset + at + first, count);
    }
}

/* What the write does not get onto the medium becomes what is there already. */
static void damage(const kv_sim_file *file, kv_sim_write *write, const kv_sim_odds *odds,
                   uint32_t unit, kv_random *random)
{
    uint64_t fate = kv_random_below(random, odds->kept + odds->lost + odds->torn);

    if (fate < odds->kept)
        return;
    if (fate < (uint64_t)odds->kept + odds->lost) {
        memcpy(write->bytes, file->bytes + write->offset, write->size);
        return;
    }
    tear(file, write, unit, random);
    if (file->tear_bytes && unit == KV_SIM_SECTOR_SIZE)
        tear_sectors(file, write, random);
}

void kv_sim_file_fail(kv_sim_file *file, kv_sim_write *write, kv_random *random)
{
    damage(file, write, &failure_odds, KV_SIM_SECTOR_SIZE, random);
    kv_sim_file_complete(file, write);
}

kv_sim_mark kv_sim_file_mark(const kv_sim_file *file)
{
    return (kv_sim_mark){.completed = file->completed, .size = file->size};
}

void kv_sim_file_flush(kv_sim_file *file, kv_sim_mark mark)
{
    assert(mark.completed <= file->completed);
    if (file->flush_failed)
        return;
    while (!kv_list_empty(&file->unflushed)) {
        kv_sim_write *write = write_of(file->unflushed.next);

        if (write->place > mark.completed)
            break;
        kv_list_remove(&write->link);
        write_close(file, write);
    }
    if (mark.size > file->size_durable)
        file->size_durable = mark.size;
}

/* Bytes past the end that a crash leaves are zero when the file grows again. */
static void lose_growth(kv_sim_file *file, kv_random *random)
{
    uint64_t end = file->size_durable;

    if (end < file->size && kv_random_one_in(random, 2)) {
        if (file->touched > end)
            memset(file->bytes + end, 0, file->touched - end);
        file->size = end;
        file->touched = file->touched < end ? file->touched : end;
    }
    file->size_durable = file->size;
}

/* Writes as one of them after the other gets, or does not get, onto the medium. */
static void settle(kv_sim_file *file, kv_list *writes, const kv_sim_odds *odds, kv_random *random)
{
    kv_list *link;

    while ((link = kv_list_pop(writes)) != NULL) {
        kv_sim_write *write = write_of(link);

        damage(file, write, odds, KV_SIM_SECTOR_SIZE, random);
        memcpy(file->bytes + write->offset, write->bytes, write->size);
        if (write->offset + write->size > file->touched)
            file->touched = write->offset + write->size;
        write_close(file, write);
    }
}

void kv_sim_file_power_cut(kv_sim_file *file, const kv_sim_odds *odds, kv_random *random)
{
    for (kv_list *link = file->unflushed.previous; link != &file->unflushed; link = link->previous)
        exchange(file, write_of(link));
    settle(file, &file->unflushed, odds, random);
    settle(file, &file->in_flight, odds, random);
    lose_growth(file, random);
}

void kv_sim_file_kill(kv_sim_file *file, const kv_sim_odds *odds, kv_random *random)
{
    while (!kv_list_empty(&file->in_flight)) {
        kv_sim_write *write = write_of(file->in_flight.next);

        damage(file, write, odds, KV_SIM_PAGE_SIZE, random);
        kv_sim_file_complete(file, write);
    }
}
