/* The system calls and the shared memory of one io_uring. It guarantees the order of memory between
 * the caller and the kernel; what the entries mean is the caller's. */
#include "drivers/uring.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The kernel moves the submission head only after a whole batch, when operations of that batch may
 * have completed already and others been filled in their place: one depth of each. */
#define ENTRIES_PER_OPERATION 2u
#define LOOP_COMPLETIONS_PER_ENTRY 8u
#define KERNEL_PAUSE_NS 100000 /* when the kernel has no memory for a request */

/* Threads other than the reaper submit, so neither IORING_SETUP_SINGLE_ISSUER nor COOP_TASKRUN
 * fits: with the latter, completions would wait until the submitter next enters the kernel. */
#define SETUP_FLAGS (IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE)
/* A loop's completions are worked out in its own io_uring_enter, without interrupting its thread.
 * That thread is not always the one that opens the ring: it starts disabled. */
#define LOOP_FLAGS                                                                             \
    (SETUP_FLAGS | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |                      \
     IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED)
#define FEATURES (IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP)

#define NS_PER_S 1000000000u

static int uring_enter(kv_uring *ring, uint32_t submit, uint32_t complete, uint32_t flags)
{
    long result = syscall(__NR_io_uring_enter, ring->descriptor, submit, complete, flags, NULL, 0);

    return result < 0 ? -errno : (int)result;
}

static int uring_setup(uint32_t flags, uint32_t entries, uint32_t features,
                       struct io_uring_params *parameters)
{
    bool loop = (flags & IORING_SETUP_SINGLE_ISSUER) != 0;
    int descriptor;

    memset(parameters, 0, sizeof(*parameters));
    parameters->flags = flags;
    parameters->cq_entries = loop ? entries * LOOP_COMPLETIONS_PER_ENTRY : entries;
    descriptor = (int)syscall(__NR_io_uring_setup, entries, parameters);
    if (descriptor < 0)
        return -errno;
    if ((parameters->features & features) != features) {
        close(descriptor);
        return -ENOSYS;
    }
    return descriptor;
}

static int uring_map(kv_uring *ring, const struct io_uring_params *parameters)
{
    const struct io_sqring_offsets *sq = &parameters->sq_off;
    const struct io_cqring_offsets *cq = &parameters->cq_off;
    size_t sq_size = sq->array + parameters->sq_entries * sizeof(uint32_t);
    size_t cq_size = cq->cqes + parameters->cq_entries * sizeof(struct io_uring_cqe);
    uint8_t *rings;

    ring->rings_size = sq_size > cq_size ? sq_size : cq_size;
    ring->submissions_size = parameters->sq_entries * sizeof(struct io_uring_sqe);
    rings = mmap(NULL, ring->rings_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                 ring->descriptor, IORING_OFF_SQ_RING);
    if (rings == MAP_FAILED)
        return -errno;
    ring->submissions = mmap(NULL, ring->submissions_size, PROT_READ | PROT_WRITE,
                             MAP_SHARED | MAP_POPULATE, ring->descriptor, IORING_OFF_SQES);
    if (ring->submissions == MAP_FAILED) {
        int error = errno;

        munmap(rings, ring->rings_size);
        return -error;
    }
    ring->rings = rings;
    ring->submission_head = (uint32_t *)(void *)(rings + sq->head);
    ring->submission_tail = (uint32_t *)(void *)(rings + sq->tail);
    ring->submission_mask = *(uint32_t *)(void *)(rings + sq->ring_mask);
    ring->completion_head = (uint32_t *)(void *)(rings + cq->head);
    ring->completion_tail = (uint32_t *)(void *)(rings + cq->tail);
    ring->completion_mask = *(uint32_t *)(void *)(rings + cq->ring_mask);
    ring->completions = (struct io_uring_cqe *)(void *)(rings + cq->cqes);
    ring->filled = *ring->submission_tail;
    /* The kernel looks entries up through an array; ours always come in order. */
    for (uint32_t i = 0; i < parameters->sq_entries; i++)
        ((uint32_t *)(void *)(rings + sq->array))[i] = i;
    return 0;
}

/* One operation there and back: a filter may allow the setup and forbid the rest. */
static int uring_try(kv_uring *ring)
{
    uint64_t user_data;
    int32_t result;
    int entered;

    kv_uring_fill(ring)->opcode = IORING_OP_NOP;
    kv_uring_publish(ring);
    do
        entered = uring_enter(ring, 1, 1, IORING_ENTER_GETEVENTS);
    while (entered == -EINTR || entered == -EAGAIN);
    if (entered < 0)
        return entered;
    while (!kv_uring_pop(ring, &user_data, &result))
        kv_uring_wait(ring);
    return 0;
}

static int uring_open(uint32_t flags, uint32_t entries, uint32_t features, kv_uring *ring)
{
    struct io_uring_params parameters;
    int result;

    memset(ring, 0, sizeof(*ring));
    ring->descriptor = uring_setup(flags, entries, features, &parameters);
    if (ring->descriptor < 0)
        return ring->descriptor;
    result = parameters.sq_entries >= entries ? uring_map(ring, &parameters) : -ENOMEM;
    if (result != 0)
        close(ring->descriptor);
    return result;
}

int kv_uring_open(uint32_t depth, kv_uring *ring)
{
    uint32_t entries = depth * ENTRIES_PER_OPERATION;
    int result;

    assert(depth > 0);
    /* Kernels before 5.18 do not know SUBMIT_ALL; without it a refused entry only costs one more
     * system call. */
    result = uring_open(SETUP_FLAGS | IORING_SETUP_SUBMIT_ALL, entries, FEATURES, ring);
    if (result == -EINVAL)
        result = uring_open(SETUP_FLAGS, entries, FEATURES, ring);
    if (result != 0) /* A kernel that knows not even these flags is too old. */
        return result == -EINVAL ? -ENOSYS : result;
    result = uring_try(ring);
    if (result != 0)
        kv_uring_close(ring);
    return result;
}

int kv_uring_open_loop(uint32_t entries, kv_uring *ring)
{
    struct io_uring_probe probe = {0};
    /* A disabled ring takes no operation that would tell whether all its calls are allowed. */
    int result = kv_uring_open(1, ring);

    if (result != 0)
        return result;
    result = kv_uring_register(ring, IORING_REGISTER_PROBE, &probe, 0);
    kv_uring_close(ring);
    if (result != 0)
        return result;
    result = uring_open(LOOP_FLAGS, entries, FEATURES | IORING_FEAT_EXT_ARG, ring);
    ring->disabled = true;
    return result == -EINVAL ? -ENOSYS : result;
}

void kv_uring_close(kv_uring *ring)
{
    munmap(ring->submissions, ring->submissions_size);
    munmap(ring->rings, ring->rings_size);
    close(ring->descriptor);
}

struct io_uring_sqe *kv_uring_fill(kv_uring *ring)
{
    /* Acquire: pairs with the kernel's release of entries it has read. */
    uint32_t head = __atomic_load_n(ring->submission_head, __ATOMIC_ACQUIRE);
    struct io_uring_sqe *sqe = &ring->submissions[ring->filled & ring->submission_mask];

    assert(ring->filled - head <= ring->submission_mask);
    memset(sqe, 0, sizeof(*sqe));
    ring->filled++;
    return sqe;
}

void kv_uring_publish(kv_uring *ring)
{
    /* Release: pairs with the kernel's acquire in io_uring_enter. */
    __atomic_store_n(ring->submission_tail, ring->filled, __ATOMIC_RELEASE);
}

void kv_uring_submit(kv_uring *ring, uint32_t count)
{
    static const struct timespec pause = {.tv_nsec = KERNEL_PAUSE_NS};

    /* Threads may hand over each other's entries; as each hands over as many as it published, all
     * of them go, and none waits for another. */
    while (count > 0) {
        int taken = uring_enter(ring, count, 0, 0);

        assert(taken != -EBADF && taken != -EFAULT && taken != -EINVAL);
        assert(taken <= (int)count);
        if (taken > 0)
            count -= (uint32_t)taken;
        else if (taken != -EINTR)
            (void)nanosleep(&pause, NULL);
    }
}

bool kv_uring_has_room(const kv_uring *ring)
{
    /* Acquire: pairs with the kernel's release of entries it has read. */
    uint32_t head = __atomic_load_n(ring->submission_head, __ATOMIC_ACQUIRE);

    return ring->filled - head <= ring->submission_mask;
}

int kv_uring_enter(kv_uring *ring, uint64_t timeout_ns)
{
    struct __kernel_timespec time = {.tv_sec = (int64_t)(timeout_ns / NS_PER_S),
                                     .tv_nsec = (long long)(timeout_ns % NS_PER_S)};
    struct io_uring_getevents_arg argument = {.ts = (uintptr_t)&time};
    uint32_t flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    uint32_t submit;
    long result;

    if (ring->disabled) {
        int error = kv_uring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);

        if (error < 0)
            return error;
        ring->disabled = false;
    }
    kv_uring_publish(ring);
    submit = ring->filled - __atomic_load_n(ring->submission_head, __ATOMIC_ACQUIRE);
    if (timeout_ns == UINT64_MAX)
        argument.ts = 0;
    result = syscall(__NR_io_uring_enter, ring->descriptor, submit, timeout_ns > 0 ? 1 : 0, flags,
                     &argument, sizeof(argument));
    return result < 0 ? -errno : 0;
}

bool kv_uring_pop(kv_uring *ring, uint64_t *user_data, int32_t *result)
{
    struct io_uring_cqe entry;

    if (!kv_uring_pop_entry(ring, &entry))
        return false;
    *user_data = entry.user_data;
    *result = entry.res;
    return true;
}

bool kv_uring_pop_entry(kv_uring *ring, struct io_uring_cqe *entry)
{
    uint32_t head = __atomic_load_n(ring->completion_head, __ATOMIC_RELAXED);
    const struct io_uring_cqe *cqe = &ring->completions[head & ring->completion_mask];

    /* Acquire: pairs with the kernel's release of completed entries. */
    if (head == __atomic_load_n(ring->completion_tail, __ATOMIC_ACQUIRE))
        return false;
    entry->user_data = cqe->user_data;
    entry->res = cqe->res;
    entry->flags = cqe->flags;
    /* Release: the kernel may write the entry again after this. */
    __atomic_store_n(ring->completion_head, head + 1, __ATOMIC_RELEASE);
    return true;
}

void kv_uring_wait(kv_uring *ring)
{
    uint32_t head = __atomic_load_n(ring->completion_head, __ATOMIC_RELAXED);

    /* Acquire: pairs with the kernel's release of completed entries. */
    while (head == __atomic_load_n(ring->completion_tail, __ATOMIC_ACQUIRE)) {
        int result = uring_enter(ring, 0, 1, IORING_ENTER_GETEVENTS);

        assert(result != -EBADF && result != -EFAULT && result != -EINVAL);
    }
}

int kv_uring_register(kv_uring *ring, unsigned operation, const void *argument, unsigned count)
{
    long result = syscall(__NR_io_uring_register, ring->descriptor, operation, argument, count);

    return result < 0 ? -errno : (int)result;
}
