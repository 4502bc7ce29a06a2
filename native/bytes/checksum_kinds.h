/* The implementations of CRC-32C that run-time dispatch chooses among, fastest first.
 * Internal: only the checksum modules and their test look at these. */
#ifndef KV_CHECKSUM_KINDS_H
#define KV_CHECKSUM_KINDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From this size on a copy streams its stores past the caches. Below it the target is likely to
 * be read soon and fits the caches; from here on, in batches, not fetching the target's lines saves a third of
 * the memory traffic. */
#define KV_CHECKSUM_STREAM_SIZE 4096

/* Streaming stores fill whole lines, so streamed targets begin on one. */
#define KV_CHECKSUM_LINE_SIZE 64

/* `sum` is the raw CRC register: the complement of a seed goes in, the complement of a checksum
 * comes out. */
typedef struct kv_checksum_code {
    const char *name;
    bool (*available)(void);
    uint32_t (*update)(uint32_t sum, const uint8_t *data, size_t size);
    /* Checksum and copy in one pass. Both are NULL where a copy is update and memcpy by turns. */
    uint32_t (*copy)(uint32_t sum, uint8_t *target, const uint8_t *source, size_t size);
    /* As copy, with streaming stores, which are weakly ordered: whoever is told of the copy sees its
     * bytes only after `settle`. `target` begins a line. Of `next`, unless it is NULL, `size` bytes
     * are asked for meanwhile. */
    uint32_t (*stream)(uint32_t sum, uint8_t *target, const uint8_t *source, size_t size,
                       const uint8_t *next);
    void (*settle)(void); /* NULL where stream is */
} kv_checksum_code;

/* The last one is portable and always available. */
extern const kv_checksum_code *const kv_checksum_kinds[];
extern const size_t kv_checksum_kinds_count;

/* kv_checksum and kv_checksum_copy_ahead by a given implementation, which must be available. */
uint32_t kv_checksum_with(const kv_checksum_code *code, uint32_t seed, const void *data,
                          size_t size);
uint32_t kv_checksum_copy_with(const kv_checksum_code *code, uint32_t seed, void *target,
                               const void *source, size_t size, const void *next);

#if defined(__x86_64__)
extern const kv_checksum_code kv_checksum_x86_512;
extern const kv_checksum_code kv_checksum_x86_256;
extern const kv_checksum_code kv_checksum_x86_sse42;
#endif

#endif
