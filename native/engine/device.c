/* What is common to every device: one operation, done before the call returns. Everything else
 * is the drivers'. */
#include "engine/device.h"

#include <assert.h>

static void run_done(kv_io *io)
{
    (void)io;
}

int64_t kv_device_run(kv_device *device, kv_io *io)
{
    assert(device != NULL && device->operations != NULL);
    assert(io != NULL);
    if (io->done == NULL)
        io->done = run_done;
    device->operations->submit(device, &io, 1);
    device->operations->wait(device, io);
    return io->result;
}

const char *kv_file_name(kv_file file)
{
    static const char *const names[KV_FILE_COUNT] = {"superblock", "slabs",        "journal-0",
                                                     "journal-1",  "checkpoint-0", "checkpoint-1"};

    assert(file < KV_FILE_COUNT);
    return names[file];
}
