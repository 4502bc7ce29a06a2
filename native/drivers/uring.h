/* A bare io_uring by raw system calls: two rings shared with the kernel.
 *
 *   submission   head (kernel) ... tail (filler)   entries handed over by kv_uring_submit
 *   completion   head (reaper) ... tail (kernel)   entries taken by kv_uring_pop
 *
 * Any number of threads may fill, one at a time under the caller's lock, and submit, without it.
 * One thread pops and waits. The filler never has more operations out than the ring was opened
 * for, so neither ring overflows. */
#ifndef KV_URING_H
#define KV_URING_H

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kv_uring {
    int descriptor;
    bool disabled; /* a loop's, before its first enter */
    uint32_t filled; /* own copy of the submission tail; ahead of it until published */
    uint32_t submission_mask;
    uint32_t completion_mask;
    uint32_t *submission_head;
    uint32_t *submission_tail;
    uint32_t *completion_head;
    uint32_t *completion_tail;
    struct io_uring_sqe *submissions;
    struct io_uring_cqe *completions;
    void *rings; /* the mapping that the pointers above point into */
    size_t rings_size;
    size_t submissions_size;
} kv_uring;

/* For at most `depth` operations at a time, and never more than that in one submit. -ENOSYS,
 * -EPERM, -EACCES, -ENOMEM: there is none to be had here. */
int kv_uring_open(uint32_t depth, kv_uring *ring);
/* Also in a forked child, whose copy goes without a trace in the parent's. */
void kv_uring_close(kv_uring *ring);

/* A ring of one thread, which fills, enters and pops: the one that makes the first kv_uring_enter.
 * Any number of operations may be out; completions beyond the ring's room wait in the kernel.
 * -ENOSYS (also before Linux 6.1), -EPERM, -EACCES, -ENOMEM. */
int kv_uring_open_loop(uint32_t entries, kv_uring *ring);
/* Whether kv_uring_fill has room; of a loop's ring. */
bool kv_uring_has_room(const kv_uring *ring);
/* Hand over what is filled, and wait for one completion, or for `timeout_ns` at most (0: only look,
 * UINT64_MAX: without end). 0 or a negative errno: what was not taken stays filled. */
int kv_uring_enter(kv_uring *ring, uint64_t timeout_ns);
/* As kv_uring_pop, with the flags of the completion. */
bool kv_uring_pop_entry(kv_uring *ring, struct io_uring_cqe *entry);

/* The next free entry, zeroed. */
struct io_uring_sqe *kv_uring_fill(kv_uring *ring);
/* Make the filled entries visible to the next submit of any thread. */
void kv_uring_publish(kv_uring *ring);
/* Hand `count` published entries to the kernel. */
void kv_uring_submit(kv_uring *ring, uint32_t count);

/* Take one completion; false when there is none. */
bool kv_uring_pop(kv_uring *ring, uint64_t *user_data, int32_t *result);
/* Block until there is a completion. */
void kv_uring_wait(kv_uring *ring);

/* io_uring_register; 0 or more, or a negative errno. */
int kv_uring_register(kv_uring *ring, unsigned operation, const void *argument, unsigned count);

#endif
