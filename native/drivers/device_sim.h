/* A simulated device: files in memory, virtual completion, and faults, all from one seed.
 *
 * What a write goes through:
 *
 *   submit --> in flight --pump--> completed --flush--> durable
 *                  |                   |
 *       kill: kept, lost or       kill: stays
 *       torn at 4096-byte pages   power cut: kept, lost or torn
 *       power cut: as completed   at 512-byte sectors
 *
 * The rules:
 * 1. A read sees a write once the write has completed.
 * 2. A flush covers the writes of its files that completed before it was submitted, and makes them
 *    durable when it completes. Nothing else does.
 * 3. At a power cut each write that is not durable is kept, lost or torn (some sectors kept; with
 *    tear_bytes some bytes), independently of the order of submission and of every other write;
 *    where several of them cover a sector, the newest that was kept there is what remains. How
 *    often each happens is drawn for each cut: "all but one" is as common as "half of them".
 * 4. An armed fault leaves the range of a failed write old, new or torn. After a failed flush no
 *    later flush of that file in the same life makes anything durable, as with a kernel that
 *    forgets what it failed to write: retrying a flush proves nothing.
 * 5. Asserted, because only a bug does it: unaligned memory, offset or size; a read or write in
 *    flight together with a write of the same bytes; memory that changes under its write.
 *
 * The same seed and the same calls give the same results. One thread at a time; any number of
 * operations may be in flight. */
#ifndef KV_DEVICE_SIM_H
#define KV_DEVICE_SIM_H

#include "engine/device.h"

typedef struct kv_sim_options {
    uint64_t seed;
    uint64_t space_max;       /* bytes of all files; beyond it file_reserve answers -ENOSPC */
    bool reorder_completions; /* complete in random order instead of submission order */
    bool tear_bytes;          /* tear inside sectors too */
    bool lose_reserves;       /* a file's growth is durable only after a flush of that file, too */
} kv_sim_options;

typedef struct kv_sim kv_sim;

/* Operations submitted over the sim's life, and their bytes. */
typedef struct kv_sim_statistics {
    uint64_t reads;
    uint64_t writes;
    uint64_t flushes;
    uint64_t read_size;
    uint64_t write_size;
} kv_sim_statistics;

/* Empty files. 0 or -ENOMEM. */
int kv_sim_open(const kv_sim_options *options, kv_sim **sim);
/* Frees the devices of all lives too, unless they were closed before. */
void kv_sim_close(kv_sim *sim);

/* As just opened, with another seed; the devices of all lives are freed. Keeps the memory: where
 * there are thousands of short lives, several times as fast as to close and open. */
void kv_sim_reset(kv_sim *sim, uint64_t seed);
/* Reset `sim` and put into it what a crash of `source` at this moment would leave to fate: its
 * files and writes, in a life that has stopped; end that with kv_sim_power_cut or kv_sim_kill. The
 * source goes on. So a workload runs once, and each of its moments is cut with many seeds. `sim`
 * keeps its own options. 0, or -ENOMEM and `sim` is as reset. */
int kv_sim_copy(kv_sim *sim, const kv_sim *source, uint64_t seed);

/* The port on top of the files: a new life. The one before must have ended: closed, killed or cut.
 * Closing the device of a life that goes on completes what is in flight; closing that of a life
 * that ended runs nothing. A write beyond the file's size completes with -EFBIG, a read with
 * -ENODATA. On a device whose life is over submit swallows, file_reserve answers -ECANCELED, and
 * wait returns at once with -ECANCELED in io->result if `io` had not completed (its done never
 * runs). It has no abandon: kv_sim_close frees everything. NULL: no memory. */
kv_device *kv_sim_device(kv_sim *sim);

/* Complete up to `count` operations; returns how many completed (0: nothing can). */
size_t kv_sim_pump(kv_sim *sim, size_t count);
/* Operations that can still complete: none once the life is over. */
size_t kv_sim_in_flight(const kv_sim *sim);

/* Cut points. Writes begun (submitted) so far, over the sim's life; and events: a write or a flush
 * submitted, a write or a flush completed. Between two events nothing changes that a crash can
 * show but the size of a growing file, so a workload that is cut at each of its events is cut
 * everywhere.
 *
 * The life stops the moment the count reaches `at` (0: never; what has passed cannot be armed):
 * nothing completes any more and submit swallows. A submission that stops the life is in flight;
 * a completion has taken effect on the device, but done is not run. Then say with
 * kv_sim_power_cut or kv_sim_kill what happened. */
uint64_t kv_sim_writes(const kv_sim *sim);
void kv_sim_cut_at(kv_sim *sim, uint64_t at);
uint64_t kv_sim_events(const kv_sim *sim);
void kv_sim_cut_at_event(kv_sim *sim, uint64_t at);
/* Whether an armed cut has stopped the latest life. */
bool kv_sim_cut(const kv_sim *sim);

/* End this life; what was in flight never completes and its kv_ios are not touched again. Power:
 * writes that are not durable are kept, lost or torn, and the incarnation changes. Kill: completed
 * writes stay (and are still not durable); those in flight are kept, lost or torn at pages. */
void kv_sim_power_cut(kv_sim *sim);
void kv_sim_kill(kv_sim *sim);

/* The next `count` operations of that kind on that file to be submitted complete with `error`
 * (e.g. -EIO). */
void kv_sim_fail(kv_sim *sim, kv_io_kind kind, kv_file file, int error, uint32_t count);
/* Change bits of a stored byte, as a medium that rots. */
void kv_sim_flip(kv_sim *sim, kv_file file, uint64_t offset, uint8_t mask);
/* The stored bytes as a read would see them; valid until the file grows. */
uint8_t *kv_sim_bytes(kv_sim *sim, kv_file file, uint64_t *size);
void kv_sim_set_space(kv_sim *sim, uint64_t space_max);
void kv_sim_statistics_read(const kv_sim *sim, kv_sim_statistics *statistics);

#endif
