/* One file of the simulated device: its bytes, the writes on their way into them, and what a crash
 * makes of both. For device_sim.c, which checks what the engine asks. */
#ifndef KV_SIM_FILE_H
#define KV_SIM_FILE_H

#include "bytes/list.h"
#include "bytes/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_SIM_SECTOR_SIZE 512u
#define KV_SIM_PAGE_SIZE 4096u
#define KV_SIM_SPARE_COUNT 21u /* powers of two from a page to more than any size of a write */

typedef struct kv_sim_write {
    kv_list link;
    uint64_t offset;
    uint32_t size;
    uint64_t place;  /* in the order of completion in its file, from 1 */
    uint8_t bytes[]; /* in flight: what it writes; completed: what it replaced */
} kv_sim_write;

typedef struct kv_sim_file {
    uint8_t *bytes; /* what a read sees */
    uint64_t size;
    uint64_t size_durable;
    uint64_t size_mapped;
    uint64_t touched;   /* bytes from here on are zero */
    uint64_t completed; /* writes */
    kv_list in_flight;
    kv_list unflushed; /* completed, in that order */
    kv_list spare[KV_SIM_SPARE_COUNT]; /* memory of ended writes, by power of two */
    bool flush_failed; /* so later flushes prove nothing */
    bool tear_bytes;
    bool lose_reserves;
} kv_sim_file;

/* What a flush covers, noted when it is submitted. */
typedef struct kv_sim_mark {
    uint64_t completed;
    uint64_t size;
} kv_sim_mark;

/* How often, relative to each other, a write is kept, lost or torn by one crash. */
typedef struct kv_sim_odds {
    uint8_t kept;
    uint8_t lost;
    uint8_t torn;
} kv_sim_odds;

const kv_sim_odds *kv_sim_odds_draw(kv_random *random);

void kv_sim_file_init(kv_sim_file *file, bool tear_bytes, bool lose_reserves);
void kv_sim_file_close(kv_sim_file *file);
/* Empty and as initialised, but the memory is kept for what comes: page faults are what many short
 * lives would spend their time on. */
void kv_sim_file_reset(kv_sim_file *file);
/* The same bytes and writes in a file just initialised or reset. 0 or -ENOMEM: then reset it. */
int kv_sim_file_copy(kv_sim_file *file, const kv_sim_file *source);

/* `size` above the file's; zeros follow its bytes. 0 or -ENOMEM, and then it is unchanged. */
int kv_sim_file_grow(kv_sim_file *file, uint64_t size);
bool kv_sim_file_holds(const kv_sim_file *file, uint64_t offset, uint64_t size);
/* For the caller to read and change; valid until the file grows. */
uint8_t *kv_sim_file_bytes(kv_sim_file *file);

/* Copies `size` bytes at `memory`; NULL when there is no memory. Each write then ends in one of
 * three ways: it completes, it fails (its range is then old, new or torn), or a crash takes it. */
kv_sim_write *kv_sim_file_begin(kv_sim_file *file, uint64_t offset, uint32_t size,
                                const void *memory);
void kv_sim_file_complete(kv_sim_file *file, kv_sim_write *write);
void kv_sim_file_fail(kv_sim_file *file, kv_sim_write *write, kv_random *random);

kv_sim_mark kv_sim_file_mark(const kv_sim_file *file);
void kv_sim_file_flush(kv_sim_file *file, kv_sim_mark mark);

void kv_sim_file_power_cut(kv_sim_file *file, const kv_sim_odds *odds, kv_random *random);
void kv_sim_file_kill(kv_sim_file *file, const kv_sim_odds *odds, kv_random *random);

#endif
