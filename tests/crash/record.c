/* The calls of libc that a store changes files by, each with the name it has there. See record.h.
 * What a store does not promise to do without (rename, unlink) is refused loudly. */
#include "record_state.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

record_state record_here = {.mutex = PTHREAD_MUTEX_INITIALIZER, .boot = 1};

/* ---- the record ---- */

uint32_t record_add(record_kind kind, int file, uint64_t offset, uint64_t size, const void *bytes)
{
    record_log *into = record_here.into;
    record_event *event;

    if (into->count == into->capacity) {
        into->capacity = into->capacity ? 2 * into->capacity : 4096;
        into->events = realloc(into->events, into->capacity * sizeof(*into->events));
        assert(into->events != NULL);
    }
    event = &into->events[into->count];
    *event = (record_event){.kind = kind,
                            .file = (kv_file)file,
                            .offset = offset,
                            .size = size,
                            .done = UINT32_MAX};
    if (bytes) {
        event->bytes = malloc(size);
        assert(event->bytes != NULL);
        memcpy(event->bytes, bytes, size);
    }
    return into->count++;
}

void record_end(uint32_t of, int64_t result)
{
    uint32_t done = record_add(RECORD_DONE, (int)record_here.into->events[of].file, 0, 0, NULL);

    record_here.into->events[done].of = of;
    record_here.into->events[done].result = result;
    record_here.into->events[of].done = done;
}

static void mode_set(record_mode mode, record_log *into, const char *directory,
                     void (*changed)(kv_file, uint64_t, uint64_t))
{
    pthread_mutex_lock(&record_here.mutex);
    assert(mode == RECORD_OFF || record_here.mode == RECORD_OFF);
    record_here.mode = mode;
    record_here.into = into;
    record_here.changed = changed;
    if (directory)
        snprintf(record_here.directory, sizeof(record_here.directory), "%s", directory);
    memset(record_here.files, 0, sizeof(record_here.files));
    record_uring_forget();
    pthread_mutex_unlock(&record_here.mutex);
}

void record_start(record_log *into, const char *directory)
{
    mode_set(RECORD_ON, into, directory, NULL);
}

void record_replay(const char *directory, void (*changed)(kv_file, uint64_t, uint64_t))
{
    mode_set(RECORD_REPLAY, NULL, directory, changed);
}

void record_stop(void)
{
    mode_set(RECORD_OFF, NULL, NULL, NULL);
}

uint32_t record_mark(void)
{
    uint32_t number;

    pthread_mutex_lock(&record_here.mutex);
    record_uring_look();
    number = record_add(RECORD_MARK, 0, 0, 0, NULL);
    pthread_mutex_unlock(&record_here.mutex);
    return number;
}

void record_free(record_log *all)
{
    for (uint32_t i = 0; i < all->count; i++)
        free(all->events[i].bytes);
    free(all->events);
    *all = (record_log){0};
}

void record_set_boot(uint32_t number)
{
    record_here.boot = number;
}

/* ---- calls ---- */

/* ISO C has no conversion from dlsym's result to a function. */
#define REAL(name)                                                                             \
    do {                                                                                       \
        if (!real)                                                                             \
            *(void **)&real = dlsym(RTLD_NEXT, name);                                          \
        assert(real != NULL);                                                                  \
    } while (0)

int record_file_of(int descriptor)
{
    if (descriptor < 0 || descriptor >= RECORD_DESCRIPTORS_MAX)
        return RECORD_NOT_OURS;
    return record_here.files[descriptor] - 1;
}

static int file_named(const char *name)
{
    for (int file = 0; file < (int)KV_FILE_COUNT; file++)
        if (strcmp(name, kv_file_name((kv_file)file)) == 0)
            return file;
    return RECORD_NOT_OURS;
}

/* A call that changes a file; UINT32_MAX: not recorded. */
static uint32_t call_begin(record_kind kind, int descriptor, uint64_t offset, uint64_t size,
                           const void *bytes)
{
    uint32_t event = UINT32_MAX;
    int file;

    pthread_mutex_lock(&record_here.mutex);
    file = record_here.mode == RECORD_OFF ? RECORD_NOT_OURS : record_file_of(descriptor);
    if (file == RECORD_DIRECTORY_FILE)
        kind = RECORD_DIRECTORY;
    if (file != RECORD_NOT_OURS && record_here.mode == RECORD_ON) {
        record_uring_look();
        event = record_add(kind, file, offset, size, bytes);
    } else if (file != RECORD_NOT_OURS && kind != RECORD_FLUSH && kind != RECORD_DIRECTORY) {
        record_here.changed((kv_file)file, offset, kind == RECORD_SIZE ? UINT64_MAX : size);
    }
    pthread_mutex_unlock(&record_here.mutex);
    return event;
}

static void call_end(uint32_t event, int64_t result)
{
    int error = errno;

    if (event == UINT32_MAX)
        return;
    pthread_mutex_lock(&record_here.mutex);
    if (record_here.mode == RECORD_ON) {
        record_uring_look();
        record_end(event, result < 0 ? -error : result);
    }
    pthread_mutex_unlock(&record_here.mutex);
    errno = error;
}

ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    uint32_t event = call_begin(RECORD_WRITE, descriptor, (uint64_t)offset, size, bytes);
    ssize_t result;

    REAL("pwrite");
    result = real(descriptor, bytes, size, offset);
    call_end(event, result);
    return result;
}

int fdatasync(int descriptor)
{
    static int (*real)(int);
    uint32_t event = call_begin(RECORD_FLUSH, descriptor, 0, 0, NULL);
    int result;

    REAL("fdatasync");
    result = real(descriptor);
    call_end(event, result);
    return result;
}

int fsync(int descriptor)
{
    static int (*real)(int);
    uint32_t event = call_begin(RECORD_FLUSH, descriptor, 0, 0, NULL);
    int result;

    REAL("fsync");
    result = real(descriptor);
    call_end(event, result);
    return result;
}

int fallocate(int descriptor, int mode, off_t offset, off_t size)
{
    static int (*real)(int, int, off_t, off_t);
    uint32_t event = call_begin(RECORD_SIZE, descriptor, 0, (uint64_t)(offset + size), NULL);
    int result;

    assert(mode == 0 || record_file_of(descriptor) == RECORD_NOT_OURS);
    REAL("fallocate");
    result = real(descriptor, mode, offset, size);
    call_end(event, result);
    return result;
}

int ftruncate(int descriptor, off_t size)
{
    static int (*real)(int, off_t);
    uint32_t event = call_begin(RECORD_SIZE, descriptor, 0, (uint64_t)size, NULL);
    int result;

    REAL("ftruncate");
    result = real(descriptor, size);
    call_end(event, result);
    return result;
}

/* Which boot it is, as this process is to believe. */
static int boot_open(void)
{
    int descriptor = memfd_create("boot", MFD_CLOEXEC);

    assert(descriptor >= 0);
    dprintf(descriptor, "boot %u\n", record_here.boot);
    lseek(descriptor, 0, SEEK_SET);
    return descriptor;
}

static int permission_of(int flags, va_list list)
{
    return flags & O_CREAT ? va_arg(list, int) : 0;
}

int open(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    int descriptor, permission;
    va_list list;

    va_start(list, flags);
    permission = permission_of(flags, list);
    va_end(list);
    if (strcmp(path, BOOT_ID) == 0 && record_here.mode != RECORD_OFF)
        return boot_open();
    REAL("open");
    descriptor = real(path, flags, permission);
    pthread_mutex_lock(&record_here.mutex);
    if (descriptor >= 0 && descriptor < RECORD_DESCRIPTORS_MAX)
        record_here.files[descriptor] =
            record_here.mode != RECORD_OFF && strcmp(path, record_here.directory) == 0
                ? 1 + RECORD_DIRECTORY_FILE
                : 0;
    pthread_mutex_unlock(&record_here.mutex);
    return descriptor;
}

int openat(int directory, const char *path, int flags, ...)
{
    static int (*real)(int, const char *, int, ...);
    int descriptor, permission, file;
    bool made;
    va_list list;

    va_start(list, flags);
    permission = permission_of(flags, list);
    va_end(list);
    made = flags & O_CREAT && faccessat(directory, path, F_OK, 0) != 0;
    REAL("openat");
    descriptor = real(directory, path, flags, permission);
    pthread_mutex_lock(&record_here.mutex);
    file = record_file_of(directory) == RECORD_DIRECTORY_FILE ? file_named(path) : RECORD_NOT_OURS;
    if (descriptor >= 0 && descriptor < RECORD_DESCRIPTORS_MAX)
        record_here.files[descriptor] = 1 + file;
    if (descriptor >= 0 && file != RECORD_NOT_OURS && made && record_here.mode == RECORD_ON)
        record_end(record_add(RECORD_CREATE, file, 0, 0, NULL), 0);
    else if (descriptor >= 0 && file != RECORD_NOT_OURS && made)
        record_here.changed((kv_file)file, 0, UINT64_MAX);
    pthread_mutex_unlock(&record_here.mutex);
    return descriptor;
}

int close(int descriptor)
{
    static int (*real)(int);

    pthread_mutex_lock(&record_here.mutex);
    if (descriptor >= 0 && descriptor < RECORD_DESCRIPTORS_MAX)
        record_here.files[descriptor] = 0;
    record_uring_closed(descriptor);
    pthread_mutex_unlock(&record_here.mutex);
    REAL("close");
    return real(descriptor);
}

/* What the store promises never to need. */
static int never(int descriptor, const char *call)
{
    if (record_here.mode == RECORD_OFF || record_file_of(descriptor) != RECORD_DIRECTORY_FILE)
        return 0;
    fprintf(stderr, "the store called %s, which this program has no rules for\n", call);
    abort();
}

int renameat(int from, const char *old, int to, const char *new)
{
    static int (*real)(int, const char *, int, const char *);

    never(from, "renameat");
    REAL("renameat");
    return real(from, old, to, new);
}

int unlinkat(int directory, const char *path, int flags)
{
    static int (*real)(int, const char *, int);

    never(directory, "unlinkat");
    REAL("unlinkat");
    return real(directory, path, flags);
}
