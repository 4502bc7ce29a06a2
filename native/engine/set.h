/* Shared by the files that write values: operation_set.c (the steps), set_reserve.c, set_append.c. All locked. */
#ifndef KV_SET_H
#define KV_SET_H

#include "engine/engine_state.h"

/* Begin items while memory and space allow. True: some began. */
bool kv_set_begin_more(kv_operation *operation);

void kv_set_release_frames(kv_operation *operation, kv_work *work);
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
/* No flush waits for this set any more: everything is appended, or it waits itself. */
void kv_set_came(kv_operation *operation);
/* Append what is written; answer and close what is visible. True: some were. */
bool kv_set_append(kv_operation *operation);
bool kv_set_close_visible(kv_operation *operation);

#endif
