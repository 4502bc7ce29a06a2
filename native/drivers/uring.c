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
#define KERNEL_PAUSE_NS 100000 /* when the kernel has no memory for a request */

/* Threads other than the reaper submit, so neither IORING_SETUP_SINGLE_ISSUER nor COOP_TASKRUN
 * fits: with the latter, completions would wait until the submitter next enters the kernel. */
#define SETUP_FLAGS (IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE)

static int uring_enter(kv_uring *ring, uint32_t submit, uint32_t complete, uint32_t flags)
{
    long result = syscall(__NR_io_uring_enter, ring->descriptor, submit, complete, flags, NULL, 0);

    return result < 0 ? -errno : (int)result;
}

static int uring_setup(uint32_t entries, struct io_uring_params *parameters)
{
    /* Kernels before 5.18 do not know SUBMIT_ALL; without it a refused entry only costs one more
     * system call. */
    static const uint32_t flags[] = {SETUP_FLAGS | IORING_SETUP_SUBMIT_ALL, SETUP_FLAGS};
    long result = -1;

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]) && result < 0; i++) {
        memset(parameters, 0, sizeof(*parameters));
        parameters->flags = flags[i];
        parameters->cq_entries = entries;
        result = syscall(__NR_io_uring_setup, entries, parameters);
        if (result < 0 && errno != EINVAL)
            return -errno;
    }
    /* A kernel that knows none of the flags, or lacks the features, is too old. */
    if (result < 0)
        return -ENOSYS;
    if ((parameters->features & IORING_FEAT_SINGLE_MMAP) == 0 ||
        (parameters->features & IORING_FEAT_NODROP) == 0) {
        close((int)result);
        return -ENOSYS;
    }
    return (int)result;
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

int kv_uring_open(uint32_t depth, kv_uring *ring)
{
    uint32_t entries = depth * ENTRIES_PER_OPERATION;
    struct io_uring_params parameters;
    int result;

    assert(depth > 0);
    memset(ring, 0, sizeof(*ring));
    ring->descriptor = uring_setup(entries, &parameters);
    if (ring->descriptor < 0)
        return ring->descriptor;
    result = parameters.sq_entries >= entries ? uring_map(ring, &parameters) : -ENOMEM;
    if (result != 0) {
        close(ring->descriptor);
        return result;
    }
    result = uring_try(ring);
    if (result != 0)
        kv_uring_close(ring);
    return result;
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

bool kv_uring_pop(kv_uring *ring, uint64_t *user_data, int32_t *result)
{
    uint32_t head = __atomic_load_n(ring->completion_head, __ATOMIC_RELAXED);
    const struct io_uring_cqe *cqe = &ring->completions[head & ring->completion_mask];

    /* Acquire: pairs with the kernel's release of completed entries. */
    if (head == __atomic_load_n(ring->completion_tail, __ATOMIC_ACQUIRE))
        return false;
    *user_data = cqe->user_data;
    *result = cqe->res;
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
