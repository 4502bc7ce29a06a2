/* Shared by the files that write values: operation_set.c (the steps), set_reserve.c, set_push.c, set_append.c. All
 * locked, but where it says otherwise. */
#ifndef KV_SET_H
#define KV_SET_H

#include "engine/engine_state.h"

/* Begin items while memory and space allow. True: some began. */
bool kv_set_begin_more(kv_operation *operation);
/* A frame of its own for a packed value, so that readers find it in memory; where none can be had, they do not. */
void kv_set_reserve_own_frame(kv_operation *operation, kv_work *work);

/* Not locked: copy `size` bytes to a frame from byte `position` on; the checksum continued by what was copied. */
uint32_t kv_set_copy_in(const kv_tier *tier, const kv_frame *frame, uint32_t position,
                        const uint8_t *source, uint32_t size, uint32_t checksum);
/* Not locked: nothing of other values reaches the device: clear what lies between and behind. */
void kv_set_clear(const kv_tier *tier, const kv_frame *frame, uint32_t position, uint32_t end);

/* set_push.c: items [first, first + count) were begun; bytes are awaited for those that have memory. */
void kv_push_await(kv_operation *operation, uint32_t first, uint32_t count);
/* Whether the memory reserved ahead is enough for now. */
bool kv_push_has_enough(const kv_operation *operation);
/* Works [write_next, end) have come and are worth writing now. */
uint32_t kv_push_end(kv_operation *operation);
/* What has not come, or is not being written, is given up. */
void kv_push_abort(kv_operation *operation);

void kv_set_release_frames(kv_operation *operation, kv_work *work);
/* Count bytes of the DRAM tier that the operation takes, or gives back. */
void kv_set_count_memory(kv_operation *operation, int64_t size);
/* Give an item its status, once. */
void kv_set_answer(kv_operation *operation, kv_work *work, kv_status status);
/* The work holds nothing any more. */
void kv_set_close(kv_operation *operation, kv_work *work, kv_status status);
/* Close a work that never reached the journal: its extents and object go back. */
void kv_set_discard(kv_operation *operation, kv_work *work, kv_status status);
/* Make a staged value findable, and answer it, before the device holds it (durability memory). */
void kv_set_link_unstored(kv_operation *operation, kv_work *work);
/* The device holds such a value now, or never will. */
void kv_set_written(kv_operation *operation, kv_work *work);
/* Make what is staged of a set that was settled findable, as far as it has come to it (durability memory). */
void kv_set_link_settled(kv_operation *operation);
/* Everything has come: a flush may now wait for what is small. */
void kv_push_came(kv_operation *operation);

/* Whether the set's caller has to decide first. */
static inline bool kv_set_is_held(const kv_operation *operation)
{
    return operation->held && !operation->settled && !operation->abort_status;
}
/* What the work comes to, as far as is known. */
kv_status kv_set_outcome(const kv_work *work);
/* Memory of the run that a packed value belongs to: its first work holds it. */
static inline kv_frame *kv_set_run_frame(const kv_work *work)
{
    return work->operation->works[work->run - 1].staging;
}

/* set_hold.c: whether a set that keeps its values may take `size` more bytes of memory. 0; -EBUSY: when others have given back
 * some; -EFBIG: never. */
int kv_hold_admit(const kv_operation *operation, uint32_t size);
/* Whether a limit of objects is looked at when an item begins: from then on it counts. */
bool kv_hold_promises_objects(const kv_operation *operation);
/* The work has its extents: count it for as long as nobody knows what becomes of it, and until it has come to its end. */
void kv_hold_begin(kv_operation *operation, kv_work *work);
void kv_hold_decided(kv_operation *operation);
void kv_hold_end(kv_operation *operation, kv_work *work);

/* No flush waits for this set any more: everything is appended, or it waits itself. */
void kv_set_came(kv_operation *operation);
/* Append what is written; answer and close what is visible. True: some were. */
bool kv_set_append(kv_operation *operation);
bool kv_set_close_visible(kv_operation *operation);

#endif
