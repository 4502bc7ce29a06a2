/* Many small records of any size, named by 32-bit handles instead of 64-bit pointers.
 *
 * One range of addresses is reserved up front and made usable as it fills, so a handle is
 * turned into a pointer by one addition and records never move. Freed records go to a list
 * for their size; a larger one is cut only when memory is exhausted.
 * A handle counts granules of 8 bytes; handle 0 is "none". */
#ifndef KV_ARENA_H
#define KV_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define KV_ARENA_GRANULE 8u
#define KV_ARENA_RECORD_SIZE_MAX 4096u

typedef struct kv_arena kv_arena;

/* Reserve addresses for at most `size_max` bytes (rounded to pages; at most 32 GiB).
 * Where the system refuses that much, half of it is tried, and so on down to 64 MiB;
 * then -ENOMEM. */
int kv_arena_open(uint64_t size_max, kv_arena **arena);
void kv_arena_close(kv_arena *arena);

/* A record of `size` bytes (1 ... KV_ARENA_RECORD_SIZE_MAX), not cleared; 0 when memory is
 * exhausted. */
uint32_t kv_arena_allocate(kv_arena *arena, size_t size);
/* `size` is what the record was allocated with. */
void kv_arena_free(kv_arena *arena, uint32_t handle, size_t size);

void *kv_arena_at(const kv_arena *arena, uint32_t handle);
/* The handle of a record that kv_arena_at gave. */
uint32_t kv_arena_handle(const kv_arena *arena, const void *record);

/* Bytes of memory the arena has taken from the system: whole pages, free records included. */
uint64_t kv_arena_size(const kv_arena *arena);

#endif
