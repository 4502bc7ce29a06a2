/* What survey.c shares: how an object is told where objects are listed as they are stored. */
#ifndef KV_SURVEY_H
#define KV_SURVEY_H

#include "engine/object.h"

/* Locked: an entry of kv_engine_list_stored, KV_STORED_ENTRY_SIZE bytes and the key. */
void kv_stored_entry_put(uint8_t *place, const kv_object *object);

#endif
