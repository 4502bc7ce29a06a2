/* The device port: everything the engine asks of storage. Three drivers stand behind it: io_uring,
 * a pool of threads, and a simulated device for tests.
 *
 * A device is a fixed set of files made when the store is formatted; nothing is created, renamed
 * or removed later, so directory durability is settled once. Completion runs `done` on a driver's
 * thread (simulated: inside kv_device_wait or kv_device_pump), never inside submit. */
#ifndef KV_DEVICE_H
#define KV_DEVICE_H

#include "bytes/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_DEVICE_ALIGNMENT 4096u /* of file offsets, sizes and memory in reads and writes */
#define KV_DEVICE_DEPTH_MAX 256u  /* operations in flight; others wait in the driver, in order */

typedef enum kv_file {
    KV_FILE_SUPERBLOCK = 0,
    KV_FILE_SLABS = 1,
    KV_FILE_JOURNAL_0 = 2,
    KV_FILE_JOURNAL_1 = 3,
    KV_FILE_CHECKPOINT_0 = 4,
    KV_FILE_CHECKPOINT_1 = 5,
    KV_FILE_COUNT = 6
} kv_file;

typedef enum kv_io_kind {
    KV_IO_READ = 1,
    KV_IO_WRITE = 2,
    KV_IO_FLUSH = 3 /* every completed write of `files` (bits 1 << kv_file) becomes durable */
} kv_io_kind;

/* One operation. Its memory is the driver's from submit until `done` begins; the driver does not
 * look at it once `done` has been called, so `done` may free it or submit it again. */
typedef struct kv_io {
    kv_list link; /* the driver's while in flight */
    kv_io_kind kind;
    kv_file file;   /* read and write */
    uint32_t files; /* flush; at least one */
    uint32_t size;  /* read and write; more than 0 */
    uint64_t offset;
    void *memory;
    /* Bytes moved (always == size on success; a read past the end is -ENODATA), 0 for a flush,
     * or a negative errno. */
    int64_t result;
    void (*done)(struct kv_io *io);
    void *context;
    void *driver;    /* the driver's while in flight */
    uint32_t cursor; /* the driver's while in flight */
    uint32_t pieces; /* the driver's while in flight */
} kv_io;

typedef struct kv_device kv_device;

typedef struct kv_device_operations {
    const char *name;
    /* Take `count` operations. They may complete in any order; nothing is ordered but
     * write-complete before flush-submit. */
    void (*submit)(kv_device *device, kv_io **ios, size_t count);
    /* Memory that many operations will use, in segments of `segment_size` bytes (a multiple of
     * 4096): each is registered with the kernel when an operation first uses it, where that
     * helps. It stays mapped until the device is closed. Optional to call; 0 or a negative errno
     * that the caller may ignore. */
    int (*register_memory)(kv_device *device, void *memory, size_t size, size_t segment_size);
    /* Bytes in a file, and make it at least `size` bytes with space reserved (-ENOSPC when the
     * file system is full; the file is then unchanged). Synchronous; one reservation of a file at
     * a time. */
    int64_t (*file_size)(kv_device *device, kv_file file);
    int (*file_reserve)(kv_device *device, kv_file file, uint64_t size);
    /* Block until `io` (submitted before) is not in flight; its `done` has returned then. The
     * driver only compares the pointer, so `io` may be freed by its `done`; one that `done`
     * submits again is waited for again. For recovery and close only, never inside `done`. */
    void (*wait)(kv_device *device, kv_io *io);
    /* A driver without threads of its own: complete something now; 0 when nothing can complete
     * any more. NULL for the others. */
    size_t (*poll)(kv_device *device);
    /* A value that changes whenever the system may have lost unflushed writes (boot id). */
    uint64_t (*incarnation)(kv_device *device);
    /* All submitted operations have completed before this returns. Closes files. Nobody submits
     * or waits any more, and this is not called inside `done`. */
    void (*close)(kv_device *device);
    /* In a forked child, instead of close: free this process's copy and close its descriptors
     * without waiting for anything or touching a thread; the parent does not notice. NULL where
     * there is nothing to release. */
    void (*abandon)(kv_device *device);
} kv_device_operations;

struct kv_device {
    const kv_device_operations *operations;
};

/* "superblock", "slabs", "journal-0", "journal-1", "checkpoint-0", "checkpoint-1". */
const char *kv_file_name(kv_file file);

/* Submit one operation and wait for it; returns its result. `done` may be NULL; if given it
 * leaves `io` alone. */
int64_t kv_device_run(kv_device *device, kv_io *io);

#endif
