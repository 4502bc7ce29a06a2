/* What is in flight on the simulated device, and the files it goes to: takes operations, completes
 * them one by one, and asserts what only a bug in the engine does. For device_sim.c, which says
 * when. */
#ifndef KV_SIM_QUEUE_H
#define KV_SIM_QUEUE_H

#include "drivers/sim_file.h"
#include "engine/device.h"

typedef struct kv_sim_queue {
    kv_sim_file files[KV_FILE_COUNT];
    kv_list in_flight; /* in submission order */
    size_t count;
} kv_sim_queue;

typedef struct kv_sim_completion {
    kv_io *io;
    kv_io_kind kind;
    int64_t result;
} kv_sim_completion;

void kv_sim_queue_init(kv_sim_queue *queue, bool tear_bytes, bool lose_reserves);
void kv_sim_queue_close(kv_sim_queue *queue);
/* Nothing in flight and empty files, with the memory kept. */
void kv_sim_queue_reset(kv_sim_queue *queue);

/* `error`, if not 0, is what it completes with. */
void kv_sim_queue_submit(kv_sim_queue *queue, kv_io *io, int error);
/* Complete the index-th in submission order; the caller tells the io's owner. */
kv_sim_completion kv_sim_queue_complete(kv_sim_queue *queue, size_t index, kv_random *random);
/* Forget what is in flight. Its writes stay with their files, for a crash to take. */
void kv_sim_queue_abandon(kv_sim_queue *queue);

#endif
