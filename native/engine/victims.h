/* Cache mode where others evict, as the engine's other files see it; engine.h has what the others
 * see. All of it locked. */
#ifndef KV_VICTIMS_H
#define KV_VICTIMS_H

#include "engine/engine.h"

bool kv_victims_are_others(const kv_engine *engine);
/* A set waits for so many bytes. */
void kv_victims_want(kv_engine *engine, uint64_t size);
void kv_victims_tell(kv_engine *engine);
/* Whether there are as many objects as there may be, so that a set waits. */
bool kv_victims_await_objects(const kv_engine *engine);
/* An object is gone, with so many bytes of extents. */
void kv_victims_removed(kv_engine *engine, uint64_t size);

#endif
