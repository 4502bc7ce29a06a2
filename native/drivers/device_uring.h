/* Knobs of the io_uring driver for tests and measurements; nobody else needs them. */
#ifndef KV_DEVICE_URING_H
#define KV_DEVICE_URING_H

#include "engine/device.h"

/* Behave as if the kernel refused to register memory that is not registered yet. */
void kv_device_uring_refuse_memory(kv_device *device);
/* Segments of memory that are registered. */
uint32_t kv_device_uring_segments(kv_device *device);

#endif
