/* What a store asks of the system, as it was asked: the program's own pwrite, fdatasync, openat and
 * so on stand before those of libc, carry each call out and note it. So the record is of the real
 * engine with its real drivers on a real directory; of io_uring the entries are read as they are
 * handed over, and the completions as they come.
 *
 *   RECORD  calls on the files of the recorded directory are noted, with their bytes
 *   REPLAY  calls that change a file are told to `changed`, so that the change can be undone
 *   OFF     calls only pass through
 *
 * A call is two events, its begin and its end (DONE), since what a crash may take depends on what
 * had ended before what began. One record at a time in a process. */
#ifndef RECORD_H
#define RECORD_H

#include "engine/device.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum record_kind {
    RECORD_WRITE = 1,
    RECORD_SIZE = 2,      /* fallocate or ftruncate: the file has `size` bytes from now on */
    RECORD_CREATE = 3,
    RECORD_FLUSH = 4,
    RECORD_DIRECTORY = 5, /* the directory is flushed */
    RECORD_DONE = 6,      /* of event `of` */
    RECORD_MARK = 7       /* the workload's */
} record_kind;

typedef struct record_event {
    record_kind kind;
    kv_file file;
    uint64_t offset;
    uint64_t size;
    uint8_t *bytes;     /* WRITE; the record's */
    uint32_t of;
    uint32_t done;      /* index of its DONE; UINT32_MAX: none */
    int64_t result;     /* DONE */
} record_event;

typedef enum record_mode { RECORD_OFF = 0, RECORD_ON = 1, RECORD_REPLAY = 2 } record_mode;

typedef struct record_log {
    record_event *events;
    uint32_t count;
    uint32_t capacity;
} record_log;

/* `directory` is told apart by its path. `changed`: REPLAY, from any thread. */
void record_start(record_log *log, const char *directory);
void record_replay(const char *directory,
                   void (*changed)(kv_file file, uint64_t offset, uint64_t size));
void record_stop(void);
/* The number of an event at which the workload begins or ends an operation. */
uint32_t record_mark(void);
void record_free(record_log *log);

/* What the kernel says its boot is called, to whoever asks in this process. */
void record_set_boot(uint32_t number);

#endif
