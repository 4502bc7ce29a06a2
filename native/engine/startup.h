/* What opening a target reads, and what it is opened from next time: superblock, recovery and checkpoints. Unlocked,
 * before anyone else is there, but where it says otherwise. */
#ifndef KV_STARTUP_H
#define KV_STARTUP_H

#include "engine/engine_state.h"

/* superblock.c. 1: read; 0: the device is empty; or a negative errno with its message. */
int kv_superblock_read(kv_engine *engine, char *message);
/* Make an empty target on an empty device. */
int kv_superblock_format(kv_engine *engine, char *message);
int kv_superblock_write(kv_engine *engine, bool clean);
/* Write the header of a file, with the store's uuid filled in. */
int kv_engine_write_header(kv_engine *engine, kv_file file, uint64_t offset, kv_header *header);

/* recovery.c */
int kv_recovery_run(kv_engine *engine, char *message);

/* checkpoint.c */
/* Locked: the journal is long enough, and longer than the last checkpoint: checkpoints cost no more than the journal. */
bool kv_checkpoint_due(const kv_engine *engine);
kv_file kv_checkpoint_file(uint64_t generation);
int kv_checkpoint_write_header(kv_engine *engine, uint64_t generation, uint64_t sequence, uint64_t count,
                               uint64_t end);

#endif
