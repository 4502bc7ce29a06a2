/* Decides after each system call whether a transfer is complete, goes on or has failed. It performs
 * nothing but the switch of a file to the page cache; calling the kernel is the drivers'. */
#include "drivers/transfer.h"

#include <assert.h>
#include <errno.h>

/* Errors that say nothing about the device. A ring gives up what a thread submitted when that
 * thread exits (ECANCELED, EFAULT); asked again by a thread that lives on, it works. A flush is
 * repeated only for these: after a real error its meaning is lost. */
static bool error_is_passing(int64_t result)
{
    return result == -EINTR || result == -EAGAIN || result == -ECANCELED || result == -EFAULT;
}

static int transfer_retry(kv_transfer *transfer, kv_driver_files *files, int64_t result)
{
    bool direct = atomic_load_explicit(&files->direct[transfer->file], memory_order_relaxed);

    if (transfer->retries == KV_TRANSFER_RETRIES_MAX)
        return (int)result;
    /* Several transfers may meet the refusal before the first one switches the file, so a file
     * already switched earns one more attempt. */
    if (result == -EINVAL && transfer->kind != KV_IO_FLUSH && (direct || transfer->retries == 0)) {
        kv_driver_files_buffer(files, transfer->file);
        transfer->retries++;
        return KV_TRANSFER_AGAIN;
    }
    if (!error_is_passing(result))
        return (int)result;
    transfer->retries++;
    return KV_TRANSFER_AGAIN;
}

int kv_transfer_step(kv_transfer *transfer, kv_driver_files *files, int64_t result)
{
    uint32_t moved = (uint32_t)result;

    if (result < 0)
        return transfer_retry(transfer, files, result);
    assert(result <= (int64_t)transfer->size);
    if (moved == transfer->size)
        return 0;

    /* What remains of a direct transfer must stay aligned; a read that ends off an alignment has
     * met the end of the file, and meets it again with nothing moved. */
    if (atomic_load_explicit(&files->direct[transfer->file], memory_order_relaxed))
        moved &= ~(KV_DEVICE_ALIGNMENT - 1);
    if (moved == 0)
        return transfer->kind == KV_IO_READ ? -ENODATA : -EIO;
    transfer->memory += moved;
    transfer->offset += moved;
    transfer->size -= moved;
    transfer->retries = 0;
    return KV_TRANSFER_AGAIN;
}
