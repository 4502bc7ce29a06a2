/* What the files of the recorder share. */
#ifndef RECORD_STATE_H
#define RECORD_STATE_H

#include "record.h"

#include <pthread.h>

#define RECORD_DESCRIPTORS_MAX 1024
#define RECORD_NOT_OURS (-1)
#define RECORD_DIRECTORY_FILE ((int)KV_FILE_COUNT)

typedef struct record_state {
    pthread_mutex_t mutex;
    record_mode mode;
    record_log *into;
    char directory[512];
    void (*changed)(kv_file file, uint64_t offset, uint64_t size);
    int files[RECORD_DESCRIPTORS_MAX]; /* 1 + kv_file, 1 + RECORD_DIRECTORY_FILE, or 0 */
    uint32_t boot;
} record_state;

extern record_state record_here;

/* Which file of the directory a descriptor is, RECORD_DIRECTORY_FILE, or RECORD_NOT_OURS. */
int record_file_of(int descriptor);
/* Locked, mode ON: note an event; returns its number. `bytes` are copied. */
uint32_t record_add(record_kind kind, int file, uint64_t offset, uint64_t size, const void *bytes);
/* Locked, mode ON: event `of` has ended. */
void record_end(uint32_t of, int64_t result);

/* The rings of io_uring. Locked: note what has completed since the last look. */
void record_uring_look(void);
void record_uring_forget(void);
/* Locked: the number may soon be another ring's. */
void record_uring_closed(int descriptor);

#endif
