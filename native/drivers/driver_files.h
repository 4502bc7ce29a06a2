/* The files of a store on a real file system, and what a system call's result on them means.
 * Inside the drivers only. */
#ifndef KV_DRIVER_FILES_H
#define KV_DRIVER_FILES_H

#include "drivers/drivers.h"

#include <stdatomic.h>

typedef struct kv_driver_files {
    int descriptors[KV_FILE_COUNT];
    /* Past the page cache. Cleared, for good, by the first transfer the file system refuses. */
    atomic_bool direct[KV_FILE_COUNT];
} kv_driver_files;

/* Open, or with options->create make, every file; with create the directory is durable on return.
 * On failure nothing stays open, and `*bad` (if given) is the file to blame or KV_FILE_COUNT. */
int kv_driver_files_open(const kv_driver_options *options, kv_driver_files *files, kv_file *bad);
void kv_driver_files_close(kv_driver_files *files);

/* As in the device port. */
int64_t kv_driver_files_size(const kv_driver_files *files, kv_file file);
int kv_driver_files_reserve(kv_driver_files *files, kv_file file, uint64_t size);

/* Reserve by writing zeros from the end of the file on, where fallocate is unknown. On failure
 * the file may have grown: the caller cuts it. */
int kv_driver_files_fill(kv_driver_files *files, kv_file file, uint64_t end, uint64_t size);

/* Assert what the port asks of an operation. */
void kv_driver_files_check(const kv_io *io);

/* Go through the page cache from now on. */
void kv_driver_files_buffer(kv_driver_files *files, kv_file file);

/* A hash of the boot id; else of the boot time; else a value that never comes twice, because then
 * a lost write cannot be excluded. Never 0. The paths are those of /proc. */
uint64_t kv_driver_files_incarnation(const char *boot_id_path, const char *statistics_path);

#define KV_BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define KV_BOOT_STATISTICS_PATH "/proc/stat"

#endif
