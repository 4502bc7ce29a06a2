/* CRC-32C and the copy that computes it on the way. */
#ifndef KV_CHECKSUM_H
#define KV_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* Copy `size` bytes and return the CRC-32C of what was copied, continuing from `seed`
 * (0 to begin; a chain of calls equals one call over the concatenation).
 * Reads every source byte once; large copies use streaming stores. */
uint32_t kv_checksum_copy(uint32_t seed, void *target, const void *source, size_t size);

/* The same for one copy of several. As many bytes from `next` (NULL: none) come from memory meanwhile,
 * which matters where sources are too short for the processor to foresee. Another thread that is
 * told of the copies sees them only after kv_checksum_settle, called by the one that copied. */
uint32_t kv_checksum_copy_ahead(uint32_t seed, void *target, const void *source, size_t size,
                                const void *next);
void kv_checksum_settle(void);

/* Name of the implementation that run-time dispatch chose, e.g. "vpclmulqdq". */
const char *kv_checksum_kind(void);

#endif
