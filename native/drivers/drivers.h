/* Openers of the device drivers. Each opens (or with `create` makes) the files of a store in a
 * directory. */
#ifndef KV_DRIVERS_H
#define KV_DRIVERS_H

#include "engine/device.h"

#define KV_DRIVER_THREADS_MAX 64u

typedef struct kv_driver_options {
    const char *directory; /* exists */
    bool create;           /* make missing files, then flush the directory */
    bool direct;           /* O_DIRECT where the file system has it; else silently buffered */
    uint32_t depth;        /* operations in flight, <= KV_DEVICE_DEPTH_MAX */
    uint32_t threads;      /* of the thread driver, <= KV_DRIVER_THREADS_MAX */
    bool read_only;        /* the right to read the files is enough, and no write is submitted */
} kv_driver_options;

/* -ENOSYS, -EPERM, -EACCES, -ENOMEM with KV_FILE_COUNT: the kernel or the container forbids
 * io_uring, and no file has been made. -ENOENT: a file is missing and not to be made. -EINVAL: a
 * depth or count of threads out of range, or not a regular file. On failure `*bad` (if given) is
 * the file that could not be opened, or KV_FILE_COUNT. */
int kv_driver_uring_open(const kv_driver_options *options, kv_device **device, kv_file *bad);
int kv_driver_threads_open(const kv_driver_options *options, kv_device **device, kv_file *bad);

#endif
