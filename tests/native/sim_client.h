/* A small client of the simulated device for its tests: one sim, its latest life, and operations on
 * pages whose every 8 bytes hold one tag, so that what a crash left of a write can be read off. */
#ifndef KV_SIM_CLIENT_H
#define KV_SIM_CLIENT_H

#include "bytes/random.h"
#include "drivers/device_sim.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u
#define SECTOR 512u
#define SPACE (1u << 20)
#define FILE_USED KV_FILE_SLABS
#define SEEDS 300

typedef struct client {
    kv_sim *sim;
    kv_device *device;
} client;

/* An operation with memory of its own; `finished` counts calls of done. */
typedef struct operation {
    kv_io io;
    int finished;
    uint8_t *memory;
} operation;

static inline client client_open(const kv_sim_options *options)
{
    client made;

    assert(kv_sim_open(options, &made.sim) == 0);
    made.device = kv_sim_device(made.sim);
    assert(made.device != NULL);
    return made;
}

static inline client client_of_seed(uint64_t seed)
{
    return client_open(&(kv_sim_options){.seed = seed, .space_max = SPACE});
}

static inline void client_next_life(client *made)
{
    made->device = kv_sim_device(made->sim);
    assert(made->device != NULL);
}

static inline int reserve(client *made, kv_file file, uint64_t size)
{
    return made->device->operations->file_reserve(made->device, file, size);
}

/* FILE_USED has so many pages of zeros. */
static inline client client_with_pages(uint64_t seed, uint32_t pages)
{
    client made = client_of_seed(seed);

    assert(reserve(&made, FILE_USED, (uint64_t)pages * PAGE) == 0);
    return made;
}

static inline void operation_done(kv_io *io)
{
    ((operation *)io->context)->finished++;
}

static inline operation *operation_of_kind(kv_io_kind kind)
{
    operation *made = calloc(1, sizeof(*made));

    assert(made != NULL);
    made->io.kind = kind;
    made->io.done = operation_done;
    made->io.context = made;
    made->io.result = INT64_MIN;
    return made;
}

static inline operation *transfer(kv_io_kind kind, kv_file file, uint64_t page, uint32_t pages)
{
    operation *made = operation_of_kind(kind);

    made->memory = aligned_alloc(PAGE, (size_t)pages * PAGE);
    assert(made->memory != NULL);
    made->io.file = file;
    made->io.offset = page * PAGE;
    made->io.size = pages * PAGE;
    made->io.memory = made->memory;
    return made;
}

static inline void operation_free(operation *made)
{
    free(made->memory);
    free(made);
}

static inline void fill(uint8_t *memory, size_t size, uint64_t tag)
{
    for (size_t i = 0; i < size; i += sizeof(tag))
        memcpy(memory + i, &tag, sizeof(tag));
}

static inline operation *submit(client *made, operation *started)
{
    kv_io *io = &started->io;

    made->device->operations->submit(made->device, &io, 1);
    return started;
}

static inline operation *submit_write(client *made, kv_file file, uint64_t page, uint32_t pages,
                                      uint64_t tag)
{
    operation *started = transfer(KV_IO_WRITE, file, page, pages);

    fill(started->memory, started->io.size, tag);
    return submit(made, started);
}

static inline operation *submit_read(client *made, kv_file file, uint64_t page, uint32_t pages)
{
    return submit(made, transfer(KV_IO_READ, file, page, pages));
}

static inline operation *submit_flush(client *made, uint32_t files)
{
    operation *started = operation_of_kind(KV_IO_FLUSH);

    started->io.files = files;
    return submit(made, started);
}

static inline void wait_for(client *made, operation *started)
{
    made->device->operations->wait(made->device, &started->io);
}

/* Wait, free, and answer the result. */
static inline int64_t end(client *made, operation *started)
{
    int64_t result;

    wait_for(made, started);
    result = started->io.result;
    operation_free(started);
    return result;
}

static inline int64_t write_pages(client *made, kv_file file, uint64_t page, uint32_t pages,
                                  uint64_t tag)
{
    return end(made, submit_write(made, file, page, pages, tag));
}

static inline int64_t flush_file(client *made, kv_file file)
{
    return end(made, submit_flush(made, 1u << file));
}

static inline uint64_t tag_at(kv_sim *sim, kv_file file, uint64_t offset)
{
    uint64_t tag, size;
    uint8_t *bytes = kv_sim_bytes(sim, file, &size);

    assert(offset + sizeof(tag) <= size);
    memcpy(&tag, bytes + offset, sizeof(tag));
    return tag;
}

/* The tag of a sector that is all one tag; UINT64_MAX for a sector that is not. */
static inline uint64_t sector_tag(kv_sim *sim, kv_file file, uint64_t sector)
{
    uint64_t first = tag_at(sim, file, sector * SECTOR), size;
    const uint8_t *bytes = kv_sim_bytes(sim, file, &size) + sector * SECTOR;

    /* Bytes that equal those one tag earlier, all along, are one tag. */
    return memcmp(bytes, bytes + sizeof(first), SECTOR - sizeof(first)) == 0 ? first : UINT64_MAX;
}

/* How many of the file's sectors in [first, last) hold `tag`. */
static inline uint64_t sectors_with(kv_sim *sim, kv_file file, uint64_t first, uint64_t last,
                                    uint64_t tag)
{
    uint64_t count = 0;

    for (uint64_t sector = first; sector < last; sector++)
        count += sector_tag(sim, file, sector) == tag;
    return count;
}

#endif
