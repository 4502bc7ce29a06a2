/* What clients do to the store that is recorded, and what they may expect of it after a crash.
 *
 * Each thread has keys of its own and waits for each answer, so the updates of a key are ordered.
 * An update is promised from its answer on (durability sync, or any crash that leaves the page
 * cache), else from the answer of a flush that began after that. After a crash a key is as its last
 * promised update left it, or as any update of it that had begun since. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include "kvcore.h"
#include "record.h"

#include <pthread.h>

#define WORKLOAD_THREADS 3u
#define WORKLOAD_KEYS 36u /* of all threads */
#define WORKLOAD_VALUE_SIZE_MAX (72u << 10)
#define WORKLOAD_NO_DRIVER 77 /* status of the process where the driver is forbidden */

typedef struct workload_update {
    uint32_t key;
    uint32_t number;   /* of the value; 0: a delete */
    uint32_t begin;    /* event */
    uint32_t done;     /* event; UINT32_MAX: not answered */
} workload_update;

typedef struct workload_flush {
    uint32_t begin, done;
} workload_flush;

typedef struct workload {
    record_log record;
    kv_durability durability;
    pthread_mutex_t mutex;
    workload_update *updates; /* of a key: in order */
    uint32_t update_count, update_capacity;
    workload_flush *flushes;
    uint32_t flush_count, flush_capacity;
    uint32_t numbers;
    uint64_t seed;
} workload;

/* Open a store in `directory`, which is empty, use it, close it, open it, use it, and leave it. */
void workload_run(workload *work, const char *directory, uint64_t seed, uint32_t operations,
                  kv_durability durability, kv_driver driver);
void workload_free(workload *work);

/* The options of every store of this program. */
kv_store_options workload_options(const char *directory, kv_durability durability,
                                  kv_driver driver);
void workload_key(uint32_t key, char name[16]);
uint32_t workload_value_size(uint32_t number);
void workload_value(uint32_t number, uint8_t *value);

/* NULL: value `number` (0: none) may be at a key after a crash at event `cut`; else what is wrong. */
const char *workload_judge(const workload *work, uint32_t cut, bool power, uint32_t key,
                           uint32_t number);

#endif
