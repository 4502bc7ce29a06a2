/* What is io_uring's alone: systems that forbid it, and more operations than its rings hold. */
#include "reactor_subject.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CROWD 2500u /* pairs: their entries and completions exceed both rings */

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

static int open_while_forbidden(unsigned call)
{
    kv_reactor *reactor;

    if (!forbid(call))
        return 2;
    if (kv_reactor_open(KV_REACTOR_URING, &reactor) != -EPERM)
        return 1;
    if (kv_reactor_open(KV_REACTOR_AUTO, &reactor) != 0)
        return 1;
    kv_reactor_close(reactor);
    return 0;
}

static void a_forbidden_ring_is_an_error_when_asked_for(void)
{
    static const unsigned calls[] = {__NR_io_uring_setup, __NR_io_uring_enter,
                                     __NR_io_uring_register};

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        pid_t child = fork();
        int status;

        if (child == 0)
            _exit(open_while_forbidden(calls[i]));
        assert(waitpid(child, &status, 0) == child);
        assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2));
    }
}

static void an_unknown_driver_is_refused(void)
{
    kv_reactor *reactor;

    assert(kv_reactor_open(3, &reactor) == -EINVAL);
}

static void more_completions_than_the_ring_holds_are_all_told(void)
{
    static test_end ends[CROWD];
    static uint8_t bytes[CROWD];
    static int others[CROWD];
    kv_reactor *reactor = open_reactor(URING);

    assert(strcmp(kv_reactor_name(reactor), "io_uring") == 0);
    for (uint32_t i = 0; i < CROWD; i++) {
        int descriptors[2];

        pair_open(descriptors);
        others[i] = descriptors[1];
        end_open(&ends[i], reactor, descriptors[0]);
        end_receive(&ends[i], &bytes[i], 1);
    }
    (void)kv_reactor_turn(reactor, 0);
    for (uint32_t i = 0; i < CROWD; i++)
        assert(write(others[i], "x", 1) == 1);
    for (uint32_t i = 0; i < CROWD; i++) {
        turn_until(reactor, &ends[i].receives, 1);
        assert(ends[i].received == 1 && bytes[i] == 'x');
        end_receive(&ends[i], &bytes[i], 1);
    }
    (void)kv_reactor_turn(reactor, 0);
    /* So are the cancels, in pairs with what they cancel. */
    for (uint32_t i = 0; i < CROWD; i++)
        kv_socket_close(&ends[i].socket);
    for (uint32_t i = 0; i < CROWD; i++) {
        turn_until(reactor, &ends[i].closes, 1);
        close(others[i]);
    }
    kv_reactor_close(reactor);
}

int main(void)
{
    struct rlimit limit;

    an_unknown_driver_is_refused();
    if (!driver_is_allowed(URING))
        return 0;
    assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    a_forbidden_ring_is_an_error_when_asked_for();
    if (limit.rlim_max > 2 * CROWD + 100)
        more_completions_than_the_ring_holds_are_all_told();
    return 0;
}
