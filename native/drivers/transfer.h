/* The rest of one read, write or flush of one file, and what a result of the kernel does to it.
 * Both real drivers decide here, so that they agree about short transfers and retries. */
#ifndef KV_TRANSFER_H
#define KV_TRANSFER_H

#include "drivers/driver_files.h"

#define KV_TRANSFER_RETRIES_MAX 64u /* in a row, without a byte moved */
#define KV_TRANSFER_AGAIN 1

typedef struct kv_transfer {
    uint8_t *memory;
    uint64_t offset;
    uint32_t size; /* still to move; 0 for a flush */
    uint32_t retries;
    kv_io_kind kind;
    kv_file file;
} kv_transfer;

/* `result` is bytes moved or a negative errno. Returns 0 when the transfer is complete,
 * KV_TRANSFER_AGAIN when what remains of it is to be performed, else the errno it failed with. */
int kv_transfer_step(kv_transfer *transfer, kv_driver_files *files, int64_t result);

#endif
