/* What is io_uring's alone: memory registered with the kernel, and systems that forbid it. */
#include "device_subject.h"

#include "bytes/region.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Writes page 0, 1 ... of a region of 8 segments of 4 pages; returns the segments registered. */
static uint32_t segments_after_use(kv_device *device, uint8_t *memory)
{
    for (uint32_t i = 0; i < 12; i++)
        assert(run(device, KV_IO_WRITE, i * PAGE, PAGE, memory + i * PAGE) == PAGE);
    return kv_device_uring_segments(device);
}

static void memory_is_registered_ahead_of_its_use(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    const kv_device_operations *operations = device->operations;
    kv_region region;
    uint32_t ahead;
    uint32_t used;
    int result;

    assert(kv_region_open(32 * PAGE, false, &region) == 0);
    result = operations->register_memory(device, region.memory, region.size, 4 * PAGE);
    ahead = kv_device_uring_segments(device);
    used = segments_after_use(device, region.memory);
    /* Older kernels have no such table, and some limits allow nothing. */
    assert(ahead == (result == 0 && subject->driver == URING ? 1 : 0) || result < 0);
    assert(used == (result == 0 && subject->driver == URING ? 4 : 0) || result < 0);
    /* Across segments, and outside the region. */
    assert(run(device, KV_IO_WRITE, 0, 32 * PAGE, region.memory) == 32 * PAGE);
    assert(run(device, KV_IO_READ, 0, 32 * PAGE, region.memory) == 32 * PAGE);
    assert(kv_device_uring_segments(device) == (used > 0 ? 8 : 0));
    operations->close(device);
    kv_region_close(&region);
}

static void what_cannot_be_registered_is_refused(const test_subject *subject)
{
    kv_device *device = open_of_depth(subject, 4);
    const kv_device_operations *operations = device->operations;
    uint8_t *memory = memory_of(16 * PAGE);
    int result = operations->register_memory(device, memory, PAGE, PAGE);

    assert(operations->register_memory(device, NULL, PAGE, PAGE) == -EINVAL);
    assert(operations->register_memory(device, memory, 0, PAGE) == -EINVAL);
    assert(operations->register_memory(device, memory, PAGE, 0) == -EINVAL);
    assert(operations->register_memory(device, memory, PAGE, 100) == -EINVAL);
    assert(operations->register_memory(device, memory, PAGE, (size_t)2 << 30) == -EINVAL);
    for (uint32_t i = 1; i < 8 && result == 0; i++)
        assert(operations->register_memory(device, memory + i * PAGE, PAGE, PAGE) == 0);
    if (result == 0)
        assert(operations->register_memory(device, memory + 8 * PAGE, PAGE, PAGE) == -ENOSPC);
    memset(memory, 1, 16 * PAGE);
    assert(run(device, KV_IO_WRITE, 0, 16 * PAGE, memory) == 16 * PAGE);
    operations->close(device);
    free(memory);
}

/* Gives up the privilege that the limit does not bind; 2: this process may not. */
static int write_with_pages_pinned(const test_subject *original, rlim_t pages)
{
    struct rlimit limit = {pages * PAGE, pages * PAGE};
    test_subject subject = *original;
    kv_device *device = NULL;
    kv_region region;
    uint32_t segments;
    int result;

    if (chmod(subject.directory, 0777) != 0 || chdir(subject.directory) != 0)
        return 2;
    (void)snprintf(subject.directory, sizeof(subject.directory), ".");
    assert(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        return 2;
    result = device_open(&subject, 4, &device);
    /* Newer kernels count the ring itself; the caller then takes the other driver. */
    if (result == -ENOMEM)
        return 0;
    assert(result == 0);
    assert(kv_region_open(32 * PAGE, false, &region) == 0);
    (void)device->operations->register_memory(device, region.memory, region.size, 8 * PAGE);
    segments = segments_after_use(device, region.memory);
    device->operations->close(device);
    kv_region_close(&region);
    return segments == 0 ? 0 : 1;
}

static void a_limit_on_pinned_memory_is_no_error(const test_subject *subject)
{
    for (rlim_t pages = 0; pages <= 6; pages += 3) {
        pid_t child = fork();
        int status;

        if (child == 0)
            _exit(write_with_pages_pinned(subject, pages));
        assert(waitpid(child, &status, 0) == child);
        assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2));
    }
}

/* Answer EPERM to one system call from now on, as containers do; false: not permitted here. */
static bool forbid(unsigned call)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int open_while_forbidden(const test_subject *subject, unsigned call)
{
    char path[PATH_MAX + 32];
    kv_device *device;

    if (!forbid(call))
        return 2;
    assert(device_open(subject, 4, &device) == -EPERM);
    (void)snprintf(path, sizeof(path), "%s/%s", subject->directory,
                   kv_file_name(KV_FILE_SUPERBLOCK));
    return access(path, F_OK) != 0 ? 0 : 1;
}

static void a_forbidden_ring_is_an_error_before_any_file_is_made(const test_subject *subject)
{
    static const unsigned calls[] = {__NR_io_uring_setup, __NR_io_uring_enter};

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        pid_t child = fork();
        int status;

        if (child == 0)
            _exit(open_while_forbidden(subject, calls[i]));
        assert(waitpid(child, &status, 0) == child);
        assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2));
    }
}

static const test_rule rules[] = {
    memory_is_registered_ahead_of_its_use,
    what_cannot_be_registered_is_refused,
    a_limit_on_pinned_memory_is_no_error,
    a_forbidden_ring_is_an_error_before_any_file_is_made,
};

int main(void)
{
    if (!uring_is_allowed())
        return 0;
    for (size_t rule = 0; rule < sizeof(rules) / sizeof(rules[0]); rule++) {
        subject_check(rules[rule], URING, true);
        subject_check(rules[rule], URING_REFUSED, true);
    }
}
