/* The storage engine of one target: what the embedded store, a storage node and the simulator drive.
 *
 * Pure over its ports: a device (engine/device.h), a clock and an executor come in as arguments. An
 * operation is a state machine: kv_operation_step does what can be done now and never blocks; when it
 * must wait, the executor's `ready` is called once as soon as another step makes sense.
 *
 *   request --begin--> step --(waits for device, journal, space)--> step --> answered --> finished
 *
 * A finished operation holds nothing; an answered one may still write (durability memory, or after an abort).
 *
 * Maintenance (checkpoint, compaction, expiry, scrub) is written as blocking calls for one thread of the caller. */
#ifndef KV_ENGINE_H
#define KV_ENGINE_H

#include "engine/device.h"
#include "kvcore.h"

#include <stdbool.h>
#include <sys/uio.h>

typedef struct kv_engine kv_engine;
typedef struct kv_operation kv_operation;

typedef struct kv_engine_options {
    kv_device *device;
    void *memory; /* of the DRAM tier, 4096-aligned; stays the caller's */
    uint64_t memory_size;
    uint64_t capacity;  /* bytes of slabs; 0: until the file system is full */
    uint64_t space_max; /* with capacity 0: never more than this many bytes of slabs */
    uint64_t objects_max;
    uint32_t durability;
    uint32_t eviction;
    uint32_t open_mode;
    uint64_t ttl_ms;
    uint64_t seed; /* random: hash seed, uuid, run numbers */
    uint64_t (*now_ms)(void *clock); /* unix time */
    void *clock;
    void (*ready)(void *executor, kv_operation *operation); /* may be called with the engine's lock held: must only queue or wake */
    void (*answered)(void *executor, kv_operation *operation); /* every item has its status; the request is not touched any more */
    void (*maintain)(void *executor); /* maintenance is wanted soon; the same rule */
    void *executor;
    uint64_t slab_size;         /* 0: chosen from the capacity; used when a store is made */
    uint64_t journal_size_max;  /* 0: default; beyond it a checkpoint is due */
    uint64_t journal_step;      /* 0: default; journal files grow by this much */
} kv_engine_options;

/* Recovers an existing store or formats an empty device. `message` (KV_MESSAGE_SIZE) explains a failure. */
int kv_engine_open(const kv_engine_options *options, kv_engine **engine, char *message);
/* Frees the engine; the device stays open. `clean`: no operation is out; flush and mark the store as closed cleanly. Otherwise the device is dead
 * (a simulated crash): operations that are out are to be given to kv_operation_abandon. */
void kv_engine_close(kv_engine *engine, bool clean);

/* -EINVAL for a request that no step could serve (unknown kind, count, key sizes), -ENOMEM. */
int kv_operation_begin(kv_engine *engine, kv_request *request, kv_operation **operation);

/* Do what can be done now. True: finished, kv_operation_end may be called. False: `ready` will be called, once, when another step makes
 * sense; the operation may already be running elsewhere then. `answered` is called inside the step that gives the last item its status. */
bool kv_operation_step(kv_operation *operation);
/* Device operations gathered over several steps, to be submitted together. */
typedef struct kv_gather {
    kv_io **ios;
    uint32_t count;
    uint32_t capacity;
} kv_gather;

/* A step whose device operations go to `gather` (where memory allows) instead of the device. */
bool kv_operation_step_gather(kv_operation *operation, kv_gather *gather);
/* Submit what was gathered. */
void kv_engine_submit(kv_engine *engine, kv_gather *gather);
void kv_gather_close(kv_gather *gather);
/* Answer soon: items still without a status get `status` (KV_TIMEOUT, KV_CANCELLED) in the next step, which this brings about. What was
 * journaled stays. No effect once answered. Only while the operation is not finished. */
void kv_operation_abort(kv_operation *operation, kv_status status);
void kv_operation_end(kv_operation *operation);
/* Free an operation whose device is dead. */
void kv_operation_abandon(kv_operation *operation);
/* A word of the executor's own for each operation. */
void kv_operation_set_owner(kv_operation *operation, void *owner);
void *kv_operation_owner(const kv_operation *operation);

/* Requests of a storage node, whose values travel between sockets and the DRAM tier.
 *
 * LEND: a get whose values stay where they are; request.stats is given, items have no address (value 0) but their room. An item's status, result_size and
 * stats[i] (checksum, version) are there once kv_operation_next names it; with KV_OK and a size, its bytes are at kv_operation_lent until kv_operation_return. The
 * value was verified when it came from the device, or checksummed when it was set. Not more is lent at a time than an operation may hold: return some, and
 * `ready` is called when the others can begin. Answered when every item was named (naming the last one brings about the step that answers; an abort gives its
 * status to all that were not named, which are still to be named), finished when every value was returned.
 *
 * RECEIVE: a set whose values come piece by piece: request.stats[i].checksum is what the value must match, item.value is 0, value_size is its size. Steps
 * reserve memory for items in order, about KV_STAGE_SIZE ahead of what has come; kv_operation_push copies bytes there and computes the checksum on the way. A
 * value that does not match gets KV_CORRUPT and is not set; after an abort, values that were not complete are not set. */
#define KV_OP_LEND 102u
#define KV_OP_RECEIVE 103u

/* LEND: an item that got its status and was not named before, in order of completion; -1: none now. Between steps, by the thread that steps. */
int64_t kv_operation_next(kv_operation *operation);
/* Where the value of item i is; returns the number of ranges, at most KV_LENT_RANGES_MAX. From any thread, until the value is returned. */
#define KV_LENT_RANGES_MAX 257u
uint32_t kv_operation_lent(const kv_operation *operation, uint32_t i, struct iovec *ranges);
/* Once for each item that was named with KV_OK and a size. From any thread; the operation may be finished by it: then `ready` is called for a last step. */
void kv_operation_return(kv_operation *operation, uint32_t i);

/* RECEIVE: the next bytes of the value of item i; items and bytes come in order, and a value may be pushed in any number of pieces, none beyond its size. Returns
 * how many were taken: fewer than `size` (none) when item i has no memory yet: try again after the step that `ready` asks for; all when the item has its status
 * already. Between steps, by the thread that steps; after the last byte of a value (or of several) claim a step and make it. */
uint32_t kv_operation_push(kv_operation *operation, uint32_t i, const void *bytes, uint32_t size);

/* Updates of a chain: flags of a request.
 *
 * VERSIONED (RECEIVE): stats[i].version is the object's version from then on, instead of 0 (kv_version), and stats[i].expiry_ms its expiry, so that all copies agree; ttl_ms is not looked at. Deleting and pinning
 * have none to keep.
 * EXACT (RECEIVE): the object is pinned as stats[i].flags says, instead of as the one that it replaces.
 * HELD (RECEIVE): nothing is appended, linked or answered with KV_OK before kv_operation_settle; values are written to the device meanwhile (durability memory: may be). Items that
 * are refused for want of space get their status as they come up, and kv_operation_refusal tells it; so does one that does not match its checksum once its last byte was pushed.
 * RETAINED (RECEIVE): the memory of received values stays until kv_operation_release, for kv_operation_received; an operation is finished only after it, however it ends.
 * An abort before kv_operation_settle gives all items its status and sets nothing; afterwards it has no effect.
 *
 * A held one is not answered before it is settled or aborted, even when all its items are refused; a target that goes offline answers it in its next step. With HELD the fields of stats but the
 * checksum are looked at when it is settled. With HELD or RETAINED the values of one operation take at most KV_KEPT_OPERATION_PERCENT of the DRAM tier (one value alone may be any
 * that a set may have): items beyond get KV_TOO_LARGE. Those of all operations together take at most KV_KEPT_PERCENT: more wait for memory, but nobody else does for theirs. */
#define KV_REQUEST_VERSIONED 1u
#define KV_REQUEST_HELD 2u
#define KV_REQUEST_RETAINED 4u
#define KV_REQUEST_EXACT 8u
/* DELETE: what kv_engine_victims chose, here or at the head of the chain: an eviction, also of what has expired. */
#define KV_REQUEST_EVICTS 16u

#define KV_KEPT_OPERATION_PERCENT 50u
#define KV_KEPT_PERCENT 75u

#define KV_VERSION_SEQUENCE_BITS 40u
/* Version of an object of a chain: ordered as (chain version, sequence). */
static inline uint64_t kv_version(uint64_t chain_version, uint64_t sequence)
{
    return chain_version << KV_VERSION_SEQUENCE_BITS | sequence;
}

/* What became of an item so far: KV_OK while nothing speaks against it; KV_UNAVAILABLE once the target is offline. By the thread that steps. */
kv_status kv_operation_refusal(const kv_operation *operation, uint32_t i);
/* HELD: once, after a first step and after every value was pushed (or its item refused), by the thread that steps, between steps. Copies values too small for an extent of their own. Items whose status here is KV_OK are set, the others answered with it (statuses NULL: all KV_OK; what was
 * refused stays refused). Claim a step afterwards and make it. */
void kv_operation_settle(kv_operation *operation, const uint8_t *statuses);
/* RETAINED: where the value of item i is, once it is complete; as kv_operation_lent. From any thread, until kv_operation_release. */
uint32_t kv_operation_received(const kv_operation *operation, uint32_t i, struct iovec *ranges);
/* RETAINED: once, from any thread; `ready` may be called for a last step by it. */
void kv_operation_release(kv_operation *operation);

/* What is at a key now, the expired counting as absent; memory only. -ENOENT. `stat->version` is 0 for an object without one. */
int kv_engine_peek(kv_engine *engine, const void *key, uint32_t key_size, kv_item_stat *stat, uint32_t *value_size);
/* As kv_engine_list, of every stored key, for KV_CONTROL_LIST_STORED: with checksums and versions (0: it has none). Objects that are expired are listed, too. */
int64_t kv_engine_list_stored(kv_engine *engine, uint64_t *cursor, void *buffer, uint64_t size);
#define KV_STORED_ENTRY_SIZE 28u /* and the key */
/* The highest version that any object had here, as far as is known: at least that of every object there is. */
uint64_t kv_engine_version_max(kv_engine *engine);

/* Cache mode where others decide what leaves, so that all copies lose the same (victims.c). With `evicts` false the engine evicts nothing by itself: a set waits for space until a DELETE
 * with KV_REQUEST_EVICTS, or anything else, has made some. At first it does. `wanted` (NULL: nobody) is called when space is short and whenever a set begins to wait; from any thread,
 * with the engine's lock held: it must only queue or wake. */
void kv_engine_set_evicts(kv_engine *engine, bool evicts);
void kv_engine_set_wanted(kv_engine *engine, void (*wanted)(void *context), void *context);
typedef struct kv_engine_shortage {
    uint64_t size;  /* bytes of extents that should be evicted */
    uint64_t count; /* objects; both are wanted */
    uint64_t freed; /* grows whenever extents become free */
    bool waits;     /* some set does, for whatever space */
} kv_engine_shortage;
void kv_engine_look_shortage(kv_engine *engine, kv_engine_shortage *shortage);
typedef struct kv_victims {
    uint64_t size;      /* wanted; then: of those that were chosen */
    uint64_t count;     /* the same */
    uint32_t count_max;
    uint8_t *keys;      /* each a u16 and so many bytes of stored key */
    uint32_t keys_max;  /* bytes */
} kv_victims;
/* Choose what leaves, by the eviction policy: neither what is pinned nor what is being read or written. It stays, and is not chosen again, until it is deleted, set anew, or spared. */
void kv_engine_victims(kv_engine *engine, kv_victims *victims);
/* Whether the object at this key was chosen, and nothing was done with it since. */
bool kv_engine_is_victim(kv_engine *engine, const void *key, uint32_t key_size);
/* It was chosen, if it still is, and will not leave after all. */
void kv_engine_spare(kv_engine *engine, const void *key, uint32_t key_size);
/* No eviction comes: whoever waits for space now is refused (KV_NO_SPACE). `copies`: only sets with KV_REQUEST_EXACT. */
void kv_engine_end_waits(kv_engine *engine, bool copies);

/* Steps follow kv_operation_begin and each `ready`. For one that the caller wants to make by itself: true: make it now; false: `ready` was called already, and the
 * step that it asks for will do. So no `ready` is on its way when a step says that the operation is finished. Not during a step. */
bool kv_operation_claim(kv_operation *operation);

/* Memory of the caller that values are read into straight from the device where position and size allow it. It must stay mapped until it is
 * unregistered; -EBUSY (unregister) while operations are out, -EEXIST, -ENOENT, -ENOSPC beyond KV_REGIONS_MAX. */
int kv_engine_register(kv_engine *engine, uint64_t address, uint64_t size);
int kv_engine_unregister(kv_engine *engine, uint64_t address);

/* How a maintenance call executes requests on its thread: returns when the request is answered; nonzero: stop maintaining. */
typedef int kv_engine_run(void *runner, kv_request *request);

/* What is due now: eviction to the watermark, expiry, a flush, a checkpoint, compaction. Returns milliseconds until it wants to be called again. */
uint64_t kv_engine_maintain(kv_engine *engine, kv_engine_run *run, void *runner);
int kv_engine_checkpoint(kv_engine *engine);
/* Evacuate sparse slabs (at most `live_share_max` percent live); returns slabs freed or a negative errno. */
int kv_engine_compact(kv_engine *engine, uint32_t live_share_max, kv_engine_run *run, void *runner);
/* Verify values on the device; see kv_store_verify. */
int64_t kv_engine_verify(kv_engine *engine, uint64_t *cursor, uint64_t bytes_max, void *buffer, uint64_t size,
                         uint64_t *objects, uint64_t *bytes, kv_engine_run *run, void *runner);

/* Objects whose values could not be read, as entries of kv_engine_list_stored; those that do not fit are left out. Some are known; more are found by reading. */
int64_t kv_engine_damaged(kv_engine *engine, void *buffer, uint64_t size);
/* How many were known when they were last listed, and since. */
uint32_t kv_engine_damaged_count(kv_engine *engine);
/* Replace the value of a damaged object by what another copy holds; the object stays as it is otherwise. -ENOENT: it is not damaged, or another one by now. -EBADMSG: these are not the
 * bytes that it was set with. -ENOSPC, -EIO. */
int kv_engine_repair(kv_engine *engine, const void *key, uint32_t key_size, const void *value, uint32_t value_size,
                     kv_engine_run *run, void *runner);
/* How long device operations have been out, as far as it was watched: call it several times a second, with any clock that goes on. */
void kv_engine_watch_io(kv_engine *engine, uint64_t now_ns, uint64_t *oldest_ns, uint64_t *silent_ns);

int64_t kv_engine_list(kv_engine *engine, uint64_t *cursor, const void *prefix, uint32_t prefix_size, void *buffer, uint64_t size);
int kv_engine_slabs(kv_engine *engine, kv_slab_row *rows, int rows_max);
void kv_engine_statistics(kv_engine *engine, kv_store_statistics *statistics);

#endif
