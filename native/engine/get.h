/* Shared by the files that read values: operation_get.c (the steps), get_fill.c (device reads) and operation_lend.c
 * (values that are lent). All locked. */
#ifndef KV_GET_H
#define KV_GET_H

#include "engine/engine_state.h"

/* Let go of whatever the work holds. */
void kv_get_release(kv_operation *operation, kv_work *work);

/* Whether another value may be begun: one operation holds no more than its share of the DRAM tier. */
static inline bool kv_get_may_hold_more(const kv_operation *operation)
{
    return operation->held_size < operation->engine->tier.size / KV_OPERATION_MEMORY_SHARE;
}

void kv_get_hold_frame(kv_operation *operation, kv_work *work, kv_frame *frame);
/* Read the object's value from the device into a frame of its own. -ENOMEM, -EAGAIN: no frame now. */
int kv_get_fill(kv_operation *operation, uint32_t i);
/* Whether the device can read the value straight into the caller's memory. */
bool kv_get_may_read_direct(const kv_operation *operation, uint32_t i);
/* Read into the caller's memory; the DRAM tier stays as it is. -ENOMEM. */
int kv_get_read_direct(kv_operation *operation, uint32_t i);

/* Tell the request what the object is whose value will be lent. */
void kv_lend_describe(kv_operation *operation, uint32_t i, const kv_object *object);
/* The work's frame is verified: it is held from now on until it is returned. */
void kv_lend_keep(kv_operation *operation, kv_work *work);
/* What was not named comes to the status of the abort; what was named stays lent. */
void kv_lend_abort(kv_operation *operation);

#endif
