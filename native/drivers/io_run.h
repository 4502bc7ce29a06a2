/* Runs of operations: reads, or writes, that lie end to end in one file, which a driver may give to
 * the kernel as one transfer. The device does much less for one request than for many small ones.
 *
 * A run is as long as an operation of its size may take without making the first of them wait
 * noticeably. It decides nothing about errors: whoever sees a run fail, or move less than all of
 * it, performs its operations one by one, so that each gets the result that is its own. */
#ifndef KV_IO_RUN_H
#define KV_IO_RUN_H

#include "engine/device.h"

#include <sys/uio.h>

#define KV_IO_RUN_MAX 32u              /* operations */
#define KV_IO_RUN_SIZE_MAX (256u << 10) /* bytes, of a run of more than one operation */

typedef struct kv_io_run {
    uint32_t count; /* of `ios` */
    uint32_t segment_count;
    uint32_t size; /* bytes in all */
    kv_io *ios[KV_IO_RUN_MAX];
    struct iovec segments[KV_IO_RUN_MAX]; /* memory that is contiguous is one segment */
} kv_io_run;

/* A run of one read or write. */
void kv_io_run_begin(kv_io_run *run, kv_io *io);
/* Take `io` in behind the others; false, and nothing changed, when it does not continue them or the
 * run would be too long. */
bool kv_io_run_extend(kv_io_run *run, kv_io *io);

#endif
