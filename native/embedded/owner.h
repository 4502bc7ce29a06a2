/* Who executes an operation of a store's engine: the store itself, or a storage node whose reactors step their own.
 *
 * An owner is what kv_operation_set_owner was given. Both calls may come with the engine's lock held, from any
 * thread: they only queue or wake. */
#ifndef KV_OWNER_H
#define KV_OWNER_H

#include "engine/engine.h"

typedef struct kv_owner {
    void (*ready)(struct kv_owner *owner);    /* another step makes sense */
    void (*answered)(struct kv_owner *owner); /* every item has its status */
} kv_owner;

/* The engine of an open store, for operations that have an owner of their own. They have ended before the store is
 * closed. The store's upkeep goes on by itself. */
kv_engine *kv_store_engine(kv_store *store);
/* As kv_engine_repair, on the calling thread; -ESHUTDOWN: the store is being closed. */
int kv_store_repair(kv_store *store, const void *key, uint32_t key_size, const void *value, uint32_t value_size);
/* Threads that execute asynchronous batches: a node has none. For kv_store_options.workers. */
#define KV_WORKERS_NONE UINT32_MAX

#endif
