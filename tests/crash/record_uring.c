/* The rings of io_uring, as the recorder sees them: io_uring is called by syscall(), its rings are
 * mapped by mmap(), and so both are this program's own.
 *
 *   io_uring_enter   entries up to the submission's tail begin; they are read before the call
 *   any other call   completions up to the completion's tail end
 *
 * An entry that the kernel takes only later is noted a little too soon, and a completion a little
 * too late: both leave more to a crash than there is, never less. */
#include "record_state.h"

#include <assert.h>
#include <dlfcn.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define RINGS_MAX 4
#define SLOTS_MAX 4096u
#define NOTHING UINT32_MAX

typedef struct uring_ring {
    int descriptor; /* 0: none */
    struct io_uring_params parameters;
    uint8_t *rings;
    const struct io_uring_sqe *entries;
    uint32_t submitted, completed; /* looked at up to here */
    int files[KV_FILE_COUNT];      /* registered: kv_file, or RECORD_NOT_OURS */
    uint32_t slots[SLOTS_MAX];     /* by user_data: the event that runs */
} uring_ring;

static uring_ring rings[RINGS_MAX];

void record_uring_forget(void)
{
    memset(rings, 0, sizeof(rings));
}

static uring_ring *ring_of(int descriptor)
{
    for (int i = 0; i < RINGS_MAX; i++)
        if (rings[i].descriptor == descriptor && descriptor > 0)
            return &rings[i];
    return NULL;
}

void record_uring_closed(int descriptor)
{
    uring_ring *ring = ring_of(descriptor);

    if (ring)
        ring->descriptor = 0;
}

static uint32_t shared(const uring_ring *ring, uint32_t offset)
{
    const uint32_t *at = (const uint32_t *)(const void *)(ring->rings + offset);

    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static void ring_look(uring_ring *ring)
{
    const struct io_cqring_offsets *offsets = &ring->parameters.cq_off;
    const struct io_uring_cqe *entries =
        (const struct io_uring_cqe *)(const void *)(ring->rings + offsets->cqes);
    uint32_t tail = shared(ring, offsets->tail), mask = shared(ring, offsets->ring_mask);

    for (; ring->completed != tail; ring->completed++) {
        const struct io_uring_cqe *entry = &entries[ring->completed & mask];

        if (entry->user_data >= SLOTS_MAX || ring->slots[entry->user_data] == NOTHING)
            continue;
        record_end(ring->slots[entry->user_data], entry->res);
        ring->slots[entry->user_data] = NOTHING;
    }
}

void record_uring_look(void)
{
    for (int i = 0; i < RINGS_MAX && record_here.mode == RECORD_ON; i++)
        if (rings[i].descriptor > 0 && rings[i].rings)
            ring_look(&rings[i]);
}

static int entry_file(const uring_ring *ring, const struct io_uring_sqe *entry)
{
    if ((entry->flags & IOSQE_FIXED_FILE) == 0)
        return record_file_of(entry->fd);
    return entry->fd >= 0 && entry->fd < (int)KV_FILE_COUNT ? ring->files[entry->fd]
                                                            : RECORD_NOT_OURS;
}

/* A write from several places is one write. */
static uint32_t vector_add(int file, const struct io_uring_sqe *entry)
{
    const struct iovec *segments = (const struct iovec *)(uintptr_t)entry->addr;
    uint8_t *bytes, *end;
    uint64_t size = 0;
    uint32_t event;

    for (uint32_t i = 0; i < entry->len; i++)
        size += segments[i].iov_len;
    bytes = end = malloc(size);
    assert(bytes != NULL);
    for (uint32_t i = 0; i < entry->len; i++)
        end = mempcpy(end, segments[i].iov_base, segments[i].iov_len);
    event = record_add(RECORD_WRITE, file, entry->off, size, bytes);
    free(bytes);
    return event;
}

static void entry_note(uring_ring *ring, const struct io_uring_sqe *entry)
{
    int file = entry_file(ring, entry);
    uint32_t event;

    if (file == RECORD_NOT_OURS)
        return;
    if (entry->opcode == IORING_OP_WRITE || entry->opcode == IORING_OP_WRITE_FIXED)
        event = record_add(RECORD_WRITE, file, entry->off, entry->len,
                           (const void *)(uintptr_t)entry->addr);
    else if (entry->opcode == IORING_OP_WRITEV)
        event = vector_add(file, entry);
    else if (entry->opcode == IORING_OP_FSYNC)
        event = record_add(RECORD_FLUSH, file, 0, 0, NULL);
    else
        return;
    assert(entry->user_data < SLOTS_MAX);
    assert(ring->slots[entry->user_data] == NOTHING);
    ring->slots[entry->user_data] = event;
}

static void ring_submit(uring_ring *ring)
{
    uint32_t tail = shared(ring, ring->parameters.sq_off.tail);
    uint32_t mask = shared(ring, ring->parameters.sq_off.ring_mask);

    ring_look(ring);
    for (; ring->submitted != tail; ring->submitted++)
        entry_note(ring, &ring->entries[ring->submitted & mask]);
}

static void ring_add(int descriptor, const struct io_uring_params *parameters)
{
    for (int i = 0; i < RINGS_MAX; i++) {
        if (rings[i].descriptor > 0)
            continue;
        memset(&rings[i], 0, sizeof(rings[i]));
        memset(rings[i].slots, 0xff, sizeof(rings[i].slots));
        rings[i].descriptor = descriptor;
        rings[i].parameters = *parameters;
        return;
    }
    assert(!"more rings than a store opens");
}

static void before(long number, const long *arguments)
{
    uring_ring *ring = ring_of((int)arguments[0]);

    if (!ring || record_here.mode != RECORD_ON)
        return;
    if (number == __NR_io_uring_enter)
        ring_submit(ring);
    if (number == __NR_io_uring_register && arguments[1] == IORING_REGISTER_FILES)
        for (long i = 0; i < arguments[3] && i < (long)KV_FILE_COUNT; i++)
            ring->files[i] = record_file_of(((const int *)(uintptr_t)arguments[2])[i]);
}

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    long arguments[6], result;
    va_list list;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == __NR_io_uring_enter || number == __NR_io_uring_register) {
        pthread_mutex_lock(&record_here.mutex);
        before(number, arguments);
        pthread_mutex_unlock(&record_here.mutex);
    }
    result = real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                  arguments[5]);
    if (number == __NR_io_uring_setup && result >= 0 && record_here.mode == RECORD_ON) {
        pthread_mutex_lock(&record_here.mutex);
        ring_add((int)result, (const struct io_uring_params *)(uintptr_t)arguments[1]);
        pthread_mutex_unlock(&record_here.mutex);
    }
    return result;
}

void *mmap(void *address, size_t size, int protection, int flags, int descriptor, off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);
    uring_ring *ring;
    void *result;

    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "mmap");
    result = real(address, size, protection, flags, descriptor, offset);
    if (descriptor <= 0 || result == MAP_FAILED)
        return result;
    pthread_mutex_lock(&record_here.mutex);
    ring = ring_of(descriptor);
    if (ring && (uint64_t)offset == IORING_OFF_SQ_RING)
        ring->rings = result;
    if (ring && (uint64_t)offset == IORING_OFF_SQES)
        ring->entries = result;
    pthread_mutex_unlock(&record_here.mutex);
    return result;
}
