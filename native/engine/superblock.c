/* The superblock: what a target is, and whether it was closed cleanly. Two copies are written in turn,
 * so that a torn write leaves the other one. Making a target writes it last: a target without
 * superblock was never finished and holds nothing. */

#include "engine/engine_state.h"
#include "engine/startup.h"

#include "bytes/hash.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SUPERBLOCK_COPIES 2u
#define SUPERBLOCK_SIZE (SUPERBLOCK_COPIES * KV_PAGE_SIZE)

enum superblock_field {
    FIELD_SLAB_SIZE = 0,
    FIELD_SPACE_SIZE = 1,
    FIELD_CREATED_MS = 2,
    FIELD_CLEAN = 3,
    FIELD_SEQUENCE = 4,
    FIELD_COUNT = 5
};

int kv_engine_write_header(kv_engine *engine, kv_file file, uint64_t offset, kv_header *header)
{
    kv_io io = {.kind = KV_IO_WRITE, .file = file, .size = KV_PAGE_SIZE, .offset = offset};
    int64_t result;

    memcpy(header->uuid, engine->uuid, sizeof(header->uuid));
    if (posix_memalign(&io.memory, KV_PAGE_SIZE, KV_PAGE_SIZE) != 0)
        return -ENOMEM;
    kv_header_encode(header, io.memory);
    result = kv_device_run(engine->device, &io);
    free(io.memory);
    return result < 0 ? (int)result : 0;
}

int kv_superblock_write(kv_engine *engine, bool clean)
{
    uint64_t count = engine->superblock_count + 1;
    kv_header header = {
        .kind = KV_HEADER_SUPERBLOCK,
        .fields = {engine->space.slab_size, engine->space_size, engine->created_ms, clean,
                   engine->journal.next - 1, count},
    };
    uint64_t offset = count % SUPERBLOCK_COPIES * KV_PAGE_SIZE;
    kv_io flush = {.kind = KV_IO_FLUSH, .files = 1u << KV_FILE_SUPERBLOCK};
    int result = kv_engine_write_header(engine, KV_FILE_SUPERBLOCK, offset, &header);

    if (result == 0)
        result = (int)kv_device_run(engine->device, &flush);
    if (result < 0)
        return result;
    engine->superblock_count = count;
    return 0;
}

static int superblock_take(kv_engine *engine, const kv_header *header, char *message)
{
    uint64_t slab_size = header->fields[FIELD_SLAB_SIZE];

    if (slab_size < KV_SLAB_SIZE_MIN || slab_size > KV_SLAB_SIZE_MAX || (slab_size & (slab_size - 1))) {
        kv_engine_explain(message, "superblock: slab size %llu is not possible",
                          (unsigned long long)slab_size);
        return -EBADMSG;
    }
    memcpy(engine->uuid, header->uuid, sizeof(engine->uuid));
    memcpy(&engine->store_id, engine->uuid, sizeof(engine->store_id));
    engine->space.slab_size = slab_size;
    engine->space_size = header->fields[FIELD_SPACE_SIZE];
    engine->created_ms = header->fields[FIELD_CREATED_MS];
    engine->superblock_sequence = header->fields[FIELD_SEQUENCE];
    engine->superblock_count = header->fields[FIELD_COUNT];
    return 1;
}

/* Neither copy can be read: why? */
static int superblock_explain(const int *errors, const uint32_t *versions, char *message)
{
    for (uint32_t i = 0; i < SUPERBLOCK_COPIES; i++)
        if (errors[i] == -ENOTSUP) {
            kv_engine_explain(message,
                              "superblock: format version %u, this program reads version %u: use the "
                              "program that wrote the store",
                              versions[i], KV_FORMAT_VERSION);
            return -ENOTSUP;
        }
    /* The first copy is written into an empty file: one that was torn holds as little as none. */
    if (errors[0] == -ENODATA || errors[1] == -ENODATA)
        return 0;
    kv_engine_explain(message, "superblock: neither copy is readable (offsets 0 and %u): it is damaged, "
                      "or the directory holds something else", KV_PAGE_SIZE);
    return -EBADMSG;
}

static int superblock_choose(kv_engine *engine, const uint8_t *pages, char *message)
{
    kv_header headers[SUPERBLOCK_COPIES];
    int errors[SUPERBLOCK_COPIES];
    uint32_t versions[SUPERBLOCK_COPIES] = {0};
    const kv_header *best = NULL;

    for (uint32_t i = 0; i < SUPERBLOCK_COPIES; i++) {
        errors[i] = kv_header_decode(pages + i * KV_PAGE_SIZE, KV_HEADER_SUPERBLOCK, &headers[i],
                                     &versions[i]);
        if (errors[i] == 0 && (!best || headers[i].fields[FIELD_COUNT] > best->fields[FIELD_COUNT]))
            best = &headers[i];
    }
    if (best)
        return superblock_take(engine, best, message);
    return superblock_explain(errors, versions, message);
}

/* Whether there is more in the file than what making a target writes. Negative errno: unknown. */
static int file_was_used(kv_engine *engine, kv_file file)
{
    kv_io io = {.kind = KV_IO_READ, .file = file, .size = KV_PAGE_SIZE, .offset = KV_PAGE_SIZE};
    const uint8_t *bytes;
    int64_t result;
    int used = 0;

    if (engine->device->operations->file_size(engine->device, file) < 2 * (int64_t)KV_PAGE_SIZE)
        return 0;
    if (posix_memalign(&io.memory, KV_PAGE_SIZE, KV_PAGE_SIZE) != 0)
        return -ENOMEM;
    result = kv_device_run(engine->device, &io);
    bytes = io.memory;
    for (uint32_t i = 0; i < KV_PAGE_SIZE && result >= 0; i++)
        used |= bytes[i] != 0;
    free(io.memory);
    return result < 0 ? (int)result : used;
}

/* A superblock is flushed before the first record is written: without one, records are those of a
 * target whose superblock was lost, and a new target in its place would destroy what is left. */
static int superblock_check_unused(kv_engine *engine, char *message)
{
    static const kv_file files[] = {KV_FILE_JOURNAL_0, KV_FILE_JOURNAL_1, KV_FILE_CHECKPOINT_0,
                                    KV_FILE_CHECKPOINT_1};

    for (uint32_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        int used = file_was_used(engine, files[i]);

        if (used == 0)
            continue;
        kv_engine_explain(message, "superblock: it is empty or was lost, but %s is in use, so no new store is "
                          "made here", kv_file_name(files[i]));
        return used < 0 ? used : -EBADMSG;
    }
    return 0;
}

int kv_superblock_read(kv_engine *engine, char *message)
{
    const kv_device_operations *operations = engine->device->operations;
    kv_io io = {.kind = KV_IO_READ, .file = KV_FILE_SUPERBLOCK, .size = SUPERBLOCK_SIZE};
    int64_t size = operations->file_size(engine->device, KV_FILE_SUPERBLOCK);
    int64_t result;

    if (size == 0)
        return superblock_check_unused(engine, message);
    if (size < (int64_t)SUPERBLOCK_SIZE) {
        kv_engine_explain(message, "superblock: truncated to %lld bytes", (long long)size);
        return -EBADMSG;
    }
    if (posix_memalign(&io.memory, KV_PAGE_SIZE, SUPERBLOCK_SIZE) != 0)
        return -ENOMEM;
    result = kv_device_run(engine->device, &io);
    if (result < 0)
        kv_engine_explain(message, "superblock: cannot be read: %s", strerror((int)-result));
    else
        result = superblock_choose(engine, io.memory, message);
    free(io.memory);
    return result != 0 ? (int)result : superblock_check_unused(engine, message);
}

static uint64_t slab_size_for(uint64_t space_size)
{
    uint64_t slab_size = KV_SLAB_SIZE_MAX;

    if (space_size == 0)
        return slab_size;
    while (slab_size > KV_SLAB_SIZE_FIRST && slab_size * KV_SLABS_PER_STORE > space_size)
        slab_size /= 2;
    return slab_size;
}

static int format_files(kv_engine *engine)
{
    const kv_device_operations *operations = engine->device->operations;
    kv_io flush = {.kind = KV_IO_FLUSH, .files = (1u << KV_FILE_COUNT) - 1};
    int result = operations->file_reserve(engine->device, KV_FILE_SLABS,
                                          KV_SLABS_START + engine->space_size);

    if (result == 0)
        result = kv_engine_write_header(engine, KV_FILE_SLABS, 0, &(kv_header){.kind = KV_HEADER_SLABS});
    if (result == 0)
        result = kv_journal_write_header(engine, 0);
    if (result == 0)
        result = kv_journal_write_header(engine, 1);
    if (result == 0)
        result = kv_checkpoint_write_header(engine, 1, 0, 0, KV_PAGE_SIZE);
    if (result == 0)
        result = (int)kv_device_run(engine->device, &flush);
    if (result == 0)
        result = operations->file_reserve(engine->device, KV_FILE_SUPERBLOCK, SUPERBLOCK_SIZE);
    return result;
}

int kv_superblock_format(kv_engine *engine, char *message)
{
    const kv_engine_options *options = &engine->options;
    int result;

    for (uint32_t i = 0; i < sizeof(engine->uuid); i++)
        engine->uuid[i] = (uint8_t)kv_hash(options->seed + i, "uuid", 4);
    memcpy(&engine->store_id, engine->uuid, sizeof(engine->store_id));
    engine->created_ms = kv_engine_now(engine);
    engine->space.slab_size = options->slab_size ? options->slab_size : slab_size_for(options->capacity);
    engine->space_size = (options->capacity + engine->space.slab_size - 1) / engine->space.slab_size *
                         engine->space.slab_size;
    engine->journal.next = 1;
    engine->journal.switch_run = engine->journal.run;
    engine->journal.switch_incarnation = engine->incarnation;
    result = format_files(engine);
    if (result == 0)
        result = kv_superblock_write(engine, false);
    if (result == -ENOSPC)
        kv_engine_explain(message, "the file system is too full for a store of %llu bytes",
                          (unsigned long long)engine->space_size);
    else if (result < 0)
        kv_engine_explain(message, "a new store cannot be written: %s", strerror(-result));
    return result;
}
