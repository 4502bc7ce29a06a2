/* States of a directory after a crash. See image.h.
 *
 * The directory is kept as what is durable; an image is laid over it, block by block, and taken
 * away again, so that an image costs as much as it differs. */
#include "image.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096u
#define IMAGE_MODE 0666

static int file_open(const image *all, kv_file file)
{
    int descriptor = openat(all->folder, kv_file_name(file), O_RDWR | O_CREAT | O_CLOEXEC,
                            IMAGE_MODE);

    assert(descriptor >= 0);
    return descriptor;
}

static uint64_t blocks_of(uint64_t size)
{
    return (size + BLOCK - 1) / BLOCK;
}

static void mark(image_file *file, uint64_t offset, uint64_t size)
{
    uint64_t end = offset + size < offset || offset + size > file->capacity ? file->capacity
                                                                            : offset + size;

    for (uint64_t block = offset / BLOCK; block * BLOCK < end; block++)
        file->dirty[block] = 1;
}

void image_changed(image *all, kv_file file, uint64_t offset, uint64_t size)
{
    if (size != UINT64_MAX)
        mark(&all->files[file], offset, size);
}

void image_open(image *all, const record_log *log, const char *directory)
{
    *all = (image){.record = log, .directory = directory};
    all->folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert(all->folder >= 0);
    for (uint32_t i = 0; i < log->count; i++) {
        const record_event *event = &log->events[i];
        uint64_t end = event->offset + event->size;

        if ((event->kind == RECORD_WRITE || event->kind == RECORD_SIZE) &&
            end > all->files[event->file].capacity)
            all->files[event->file].capacity = blocks_of(end) * BLOCK;
    }
    for (int i = 0; i < (int)KV_FILE_COUNT; i++) {
        image_file *file = &all->files[i];

        file->base = calloc(1, file->capacity + 1);
        file->dirty = calloc(1, blocks_of(file->capacity) + 1);
        file->pending = calloc(log->count + 1, sizeof(*file->pending));
        assert(file->base && file->dirty && file->pending);
    }
}

void image_close(image *all)
{
    for (int i = 0; i < (int)KV_FILE_COUNT; i++) {
        free(all->files[i].base);
        free(all->files[i].dirty);
        free(all->files[i].pending);
    }
    close(all->folder);
}

void image_rewind(image *all)
{
    for (int i = 0; i < (int)KV_FILE_COUNT; i++) {
        image_file *file = &all->files[i];

        memset(file->base, 0, file->capacity);
        memset(file->dirty, 1, blocks_of(file->capacity));
        file->base_size = 0;
        file->exists = false;
        file->pending_count = 0;
    }
    image_restore(all);
}

/* ---- what becomes durable ---- */

static void settle(image_file *file, const record_event *event)
{
    switch (event->kind) {
    case RECORD_WRITE:
        memcpy(file->base + event->offset, event->bytes, event->size);
        mark(file, event->offset, event->size);
        if (event->offset + event->size > file->base_size)
            file->base_size = event->offset + event->size;
        break;
    case RECORD_SIZE:
        if (event->size < file->base_size) {
            memset(file->base + event->size, 0, file->base_size - event->size);
            mark(file, event->size, file->base_size - event->size);
        }
        file->base_size = event->size;
        break;
    case RECORD_CREATE:
        file->exists = true;
        break;
    default:
        break;
    }
}

/* Everything that had ended before event `begin` is durable: creations, or all else. */
static void flush(image *all, image_file *file, uint32_t begin, bool creations)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < file->pending_count; i++) {
        const record_event *event = &all->record->events[file->pending[i]];

        if (event->done < begin && (event->kind == RECORD_CREATE) == creations)
            settle(file, event);
        else
            file->pending[kept++] = file->pending[i];
    }
    file->pending_count = kept;
}

static bool is_forgotten(const image *all, const record_event *event)
{
    return all->forget == (uint32_t)event->kind &&
           (event->kind == RECORD_DIRECTORY || event->file == all->forget_file);
}

/* What a failed call changed, nobody knows: it stays among what may be. */
bool image_step(image *all, uint32_t at)
{
    const record_event *event = &all->record->events[at], *of;
    image_file *file = &all->files[event->file < KV_FILE_COUNT ? event->file : 0];

    switch (event->kind) {
    case RECORD_WRITE:
    case RECORD_SIZE:
    case RECORD_CREATE:
        file->pending[file->pending_count++] = at;
        return true;
    case RECORD_MARK:
        return true;
    case RECORD_DONE:
        of = &all->record->events[event->of];
        if (event->result < 0 || is_forgotten(all, of))
            return false;
        if (of->kind == RECORD_FLUSH)
            flush(all, file, event->of, false);
        for (int i = 0; of->kind == RECORD_DIRECTORY && i < (int)KV_FILE_COUNT; i++)
            flush(all, &all->files[i], event->of, true);
        return true;
    default:
        return false;
    }
}

/* ---- what a crash leaves ---- */

/* What of one file is laid over its durable state. */
typedef struct overlay {
    int descriptor;
    image_file *file;
    uint64_t size;
} overlay;

static void lay(overlay *over, uint64_t offset, const uint8_t *bytes, uint64_t size)
{
    ssize_t written = pwrite(over->descriptor, bytes, size, (off_t)offset);

    assert(written == (ssize_t)size);
    mark(over->file, offset, size);
    if (offset + size > over->size)
        over->size = offset + size;
}

static void lay_sectors(overlay *over, const record_event *event, kv_random *random)
{
    uint64_t odds = 1 + kv_random_below(random, 4);

    for (uint64_t at = 0; at < event->size; at += IMAGE_SECTOR)
        if (kv_random_below(random, 5) < odds)
            lay(over, event->offset + at, event->bytes + at,
                event->size - at < IMAGE_SECTOR ? event->size - at : IMAGE_SECTOR);
}

static void lay_event(overlay *over, const record_event *event, image_style style, bool last,
                      kv_random *random)
{
    if (event->kind == RECORD_SIZE) {
        if (event->size < over->size)
            mark(over->file, event->size, over->size - event->size);
        assert(ftruncate(over->descriptor, (off_t)event->size) == 0);
        over->size = event->size;
    } else if (event->kind == RECORD_WRITE && style == IMAGE_SECTORS) {
        lay_sectors(over, event, random);
    } else if (event->kind == RECORD_WRITE && style == IMAGE_TEAR && last) {
        lay(over, event->offset, event->bytes, 1 + kv_random_below(random, event->size));
    } else if (event->kind == RECORD_WRITE) {
        lay(over, event->offset, event->bytes, event->size);
    }
}

/* Whether event `i` is there; `chosen` is one of those that may be. */
static bool is_there(image_style style, uint32_t i, uint32_t chosen, kv_random *random)
{
    switch (style) {
    case IMAGE_NOTHING:
        return false;
    case IMAGE_PREFIX:
    case IMAGE_TEAR:
        return i <= chosen;
    case IMAGE_ALL_BUT_ONE:
        return i != chosen;
    case IMAGE_ONE:
        return i == chosen;
    case IMAGE_WRITES:
        return kv_random_one_in(random, 2);
    default:
        return true;
    }
}

/* Creations are the directory's, and independent of what is in the files. */
static bool exists_then(image *all, const image_file *file, bool power, image_style style,
                        kv_random *random)
{
    bool made = false;

    for (uint32_t i = 0; i < file->pending_count; i++)
        made |= all->record->events[file->pending[i]].kind == RECORD_CREATE;
    if (file->exists || (made && (!power || style == IMAGE_ALL)))
        return true;
    return made && style != IMAGE_NOTHING && kv_random_one_in(random, 2);
}

static void file_build(image *all, kv_file number, uint32_t cut, bool power, image_style style,
                       uint32_t chosen, kv_random *random)
{
    image_file *file = &all->files[number];
    overlay over = {.file = file, .size = file->base_size};

    if (!exists_then(all, file, power, style, random)) {
        memset(file->dirty, 1, blocks_of(file->capacity));
        unlinkat(all->folder, kv_file_name(number), 0);
        return;
    }
    over.descriptor = file_open(all, number);
    for (uint32_t i = 0; i < file->pending_count; i++) {
        const record_event *event = &all->record->events[file->pending[i]];
        bool ended = event->done <= cut;

        if ((!power && ended) || is_there(style, file->pending[i], chosen, random))
            lay_event(&over, event, !power && ended ? IMAGE_ALL : style,
                      file->pending[i] == chosen, random);
    }
    close(over.descriptor);
}

/* One of the events that may be there. */
static uint32_t choose(const image *all, kv_random *random)
{
    uint32_t count = 0, at;

    for (int i = 0; i < (int)KV_FILE_COUNT; i++)
        count += all->files[i].pending_count;
    at = count > 0 ? (uint32_t)kv_random_below(random, count) : 0;
    for (int i = 0; i < (int)KV_FILE_COUNT; i++) {
        if (at < all->files[i].pending_count)
            return all->files[i].pending[at];
        at -= all->files[i].pending_count;
    }
    return 0;
}

void image_build(image *all, uint32_t cut, bool power, image_style style, kv_random *random)
{
    uint32_t chosen = choose(all, random);

    for (int i = 0; i < (int)KV_FILE_COUNT; i++)
        file_build(all, (kv_file)i, cut, power, style, chosen, random);
}

static void file_restore(image *all, kv_file number)
{
    image_file *file = &all->files[number];
    uint64_t count = blocks_of(file->capacity);
    int descriptor = file_open(all, number);
    struct stat status;

    assert(fstat(descriptor, &status) == 0);
    if ((uint64_t)status.st_size < file->base_size)
        mark(file, (uint64_t)status.st_size, file->base_size - (uint64_t)status.st_size);
    for (uint64_t block = 0; block < count; block++) {
        if (!file->dirty[block])
            continue;
        file->dirty[block] = 0;
        if (block * BLOCK < file->base_size)
            assert(pwrite(descriptor, file->base + block * BLOCK, BLOCK,
                          (off_t)(block * BLOCK)) == BLOCK);
    }
    assert(ftruncate(descriptor, (off_t)file->base_size) == 0);
    close(descriptor);
}

void image_restore(image *all)
{
    for (int i = 0; i < (int)KV_FILE_COUNT; i++)
        file_restore(all, (kv_file)i);
}
