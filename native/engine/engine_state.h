/* The engine's inside, shared by the files of this folder and by nobody else.
 *
 * One lock covers all of it; copies, checksums and device operations run outside the lock on things
 * that are held (an object's or a frame's `holders`). Functions that need the lock say "locked".
 *
 * Invariants
 *  1. A linked object with stored = 1 has a journal record; its extents hold its value.
 *  2. An extent is reused only after its last reader let go and after the record that superseded it
 *     was flushed: whatever tail of the journal a power cut takes, the older value is still there.
 *  3. Data before metadata: a record is appended only after its value's device writes have completed.
 *  4. Records are durable in the order of their sequences: one group is written at a time.
 *  5. visible <= durable < next; an update is answered, and shown to readers, once visible reaches its sequence
 *     (durability memory: at once). */
#ifndef KV_ENGINE_STATE_H
#define KV_ENGINE_STATE_H

#include "bytes/list.h"
#include "engine/damage.h"
#include "engine/engine.h"
#include "engine/eviction.h"
#include "engine/format.h"
#include "engine/index.h"
#include "engine/io_watch.h"
#include "engine/slab.h"

#include <pthread.h>
#include <stddef.h>

#define KV_SLABS_START (1u << 20)          /* offset of slab 0 in its file */
#define KV_SLAB_SIZE_MIN (64u << 10)
#define KV_SLAB_SIZE_MAX (32u << 20)
#define KV_SLAB_SIZE_FIRST (2u << 20)      /* smallest one chosen: its extents hold any value in 256 pieces */
#define KV_SLABS_PER_STORE 256u            /* a small capacity gets smaller slabs, about this many */
#define KV_JOURNAL_STEP (4u << 20)         /* journal files grow by this much */
#define KV_JOURNAL_SIZE_MAX_DEFAULT (64ull << 20)
#define KV_QUARANTINE_COUNT_MAX 65536u     /* beyond it a flush is due */
#define KV_FLUSH_BYTES_MAX (256ull << 20)  /* written since the last flush: bounds what recovery must verify */
#define KV_FLUSH_INTERVAL_MS 1000u
#define KV_GROW_STEP (256ull << 20)        /* the slab file doubles, but grows by no more than this */
#define KV_REGIONS_MAX 1024u               /* registered by callers */
#define KV_PACK_RUN_SIZE_MAX (128u << 10)  /* packed values written together */
#define KV_OPERATION_MEMORY_SHARE 4u       /* one operation holds at most 1/4 of the DRAM tier */
#define KV_QUEUE_ORPHAN 7u                 /* kv_object.queue: dead, its space settled; freed with its last holder */
#define KV_EVICTION_EXPECTED_MIN 4096u     /* cache mode without a limit of objects: it grows with what is there */
#define KV_COMING_SIZE_MAX (1u << 20)      /* of the values of a set that a flush waits for */
#define KV_HOLDERS_MAX 60000u              /* of one object, by reads: below what its field holds */
#define KV_STAGE_SIZE (1u << 20)           /* a set writes what it has staged each time it is so much */
#define KV_JOURNAL_SHARE_SETS 4u           /* 1/4 of a step of the journal's file is kept for what has begun */
#define KV_JOURNAL_SHARE_DELETES 16u       /* deletes go on longer: they make room */
#define KV_JOURNAL_STAGED_SIZE 512u        /* and so much for each value that is staged */
#define KV_SEQUENCE_MAX ((1ull << KV_OBJECT_SEQUENCE_BITS) - (1ull << 40)) /* updates are refused from here on */
#define KV_WATERMARK_PERCENT 2u            /* cache mode keeps this share of the space free */

/* Fields of file headers (kv_header.fields). */
enum { KV_JOURNAL_GENERATION = 0 };
enum {
    KV_CHECKPOINT_GENERATION = 0, /* the journal of this generation continues it */
    KV_CHECKPOINT_SEQUENCE = 1,   /* every update up to this one is inside */
    KV_CHECKPOINT_COUNT = 2,      /* objects */
    KV_CHECKPOINT_END = 3,        /* bytes of the file in use */
    KV_CHECKPOINT_RUN = 4,        /* that wrote it; its journal begins with groups of this run */
    KV_CHECKPOINT_INCARNATION = 5, /* in which that run was */
    KV_CHECKPOINT_VERSION = 6      /* kv_engine_version_max */
};

typedef struct kv_work kv_work;

typedef enum kv_frame_state { KV_FRAME_EMPTY = 0, KV_FRAME_FILLING = 1, KV_FRAME_FILLED = 2, KV_FRAME_FAILED = 3 } kv_frame_state;

/* A value in the DRAM tier. Memory pieces follow, each an offset in units of KV_SLAB_UNIT. What a hit
 * reads lies together at the end, so that it is loaded at once. */
typedef struct kv_frame {
    kv_list waiters;   /* works that wait for the fill */
    uint64_t hash;     /* of the key */
    uint32_t source;   /* handle of the object whose extents fill it, held meanwhile; 0: none */
    uint32_t fills;    /* device reads still out */
    uint32_t self;     /* its own handle */
    uint32_t object;   /* handle of the object it caches, 0: detached, freed with its last holder */
    uint32_t queue_next;
    uint32_t queue_previous;
    uint32_t size;     /* bytes of the value */
    uint32_t span;     /* bytes reserved, >= skip + size */
    uint32_t skip;     /* where the value begins: a packed value is read with the pages around it */
    uint32_t holders;
    int32_t error;
    uint8_t queue;
    uint8_t frequency;
    uint8_t state;     /* kv_frame_state */
    uint8_t verified;  /* its checksum matched once */
    uint8_t unwritten; /* durability memory: the device does not hold it yet */
    uint8_t reserved;
    uint16_t piece_count;
    uint32_t pieces[];
} kv_frame;

_Static_assert(offsetof(kv_frame, queue_next) % 8 == 0 &&
                   offsetof(kv_frame, queue_previous) == offsetof(kv_frame, queue_next) + 4,
               "both neighbours are in one line of the processor's cache");

/* Memory that a caller registered, ordered by address. */
typedef struct kv_caller_region {
    uint64_t address;
    uint64_t size;
} kv_caller_region;

typedef struct kv_tier {
    uint8_t *memory;
    uint64_t size;
    kv_slab_allocator *space;
    struct kv_arena *frames;
    kv_eviction *eviction;
    kv_index *index;
    bool pinned_may_go;
    uint64_t count;
} kv_tier;

/* One device operation of a value, from a pool. */
typedef struct kv_transfer {
    kv_io io;
    struct kv_engine *engine;
    kv_frame *frame;         /* a fill */
    kv_operation *operation; /* a write */
    uint32_t first;          /* works [first, first + count) of that operation whose run is `run` */
    uint32_t count;
    uint32_t run;
    uint8_t generation;      /* of io_watch */
} kv_transfer;

/* The works of an operation that one device write stores. */
typedef struct kv_work_range {
    uint32_t first;
    uint32_t count;
    uint32_t run; /* only those with this run */
} kv_work_range;

/* Where a value's bytes are in memory: `span` bytes (whole pages) of a frame, or of the caller's registered memory. */
typedef struct kv_transfer_memory {
    kv_frame *frame;
    uint8_t *direct;
    uint32_t span;
} kv_transfer_memory;

typedef struct kv_retired {
    uint64_t sequence;
    uint32_t object;
} kv_retired;

typedef struct kv_space {
    kv_slab_allocator *slabs;
    uint64_t reserved_size; /* bytes of the slab file that exist */
    uint64_t slab_size;
    kv_retired *retired;    /* ring, capacity a power of two */
    uint32_t retired_capacity;
    uint32_t retired_head;
    uint32_t retired_count;
    uint64_t retired_size;
    uint32_t orphan_count;  /* retired and flushed, but still being read */
    uint32_t staged_count;  /* values that have extents, but no record yet */
    uint32_t held_count;    /* those of them whose sets are not settled: nobody knows when they will have one */
    bool full;              /* the file system refused to grow */
    bool compaction_wanted; /* a set waits for it, or was scattered */
    bool compaction_vain;   /* the last one freed nothing, and nothing was freed since */
    uint32_t reserve_count; /* slabs that only compaction may use */
    uint64_t wanted_size;   /* that sets wait for, and others are to evict */
    uint64_t freed;         /* bytes given back so far */
} kv_space;

typedef struct kv_journal {
    uint8_t *buffers[2];
    uint8_t *filling;       /* one of the buffers */
    uint32_t fill_size;     /* bytes of records in it */
    uint32_t fill_count;
    uint64_t next;          /* sequence of the next record */
    uint64_t durable;       /* written */
    uint64_t flushed;
    uint64_t flush_wanted;  /* somebody waits until everything up to here is flushed */
    uint64_t writing_last;  /* last sequence of the group being written */
    uint64_t flushing_last;
    bool writing;
    bool flushing;
    bool switch_wanted;     /* the next group goes to the other file: a checkpoint begins */
    uint64_t switch_sequence; /* first sequence of the current generation, and who wrote it */
    uint64_t switch_run;
    uint64_t switch_incarnation;
    uint64_t run;
    uint64_t generation;
    uint64_t offset;
    uint64_t reserved_size; /* of the current file */
    bool full;              /* the file system refused to let it grow: a checkpoint is due */
    uint64_t vain_ms;       /* when a checkpoint for that reason failed; 0: it did not */
    uint32_t groups_held;   /* written since the last flush began */
    uint64_t bytes_unflushed;
    uint32_t files_unflushed;
    uint8_t write_generation, flush_generation; /* of io_watch */
    kv_io write_io;
    kv_io flush_io;
    kv_list waiters;        /* operations: see kv_operation.wait_sequence */
} kv_journal;

struct kv_engine {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* the journal moved: for the blocking calls */
    kv_engine_options options;
    kv_device *device;
    uint8_t uuid[16];
    uint64_t store_id;      /* low 8 bytes of the uuid */
    uint64_t created_ms;
    uint64_t incarnation;   /* of the system: another one may have lost what was not flushed */
    uint64_t space_size;    /* bytes of slabs, as the superblock says; 0: grows with the file system */
    uint64_t superblock_count; /* writes of it so far: picks the copy */
    uint64_t superblock_sequence;   /* the superblock as found: the journal was flushed up to here */
    uint64_t checkpoint_generation; /* of the newest complete checkpoint */
    kv_index *index;
    kv_tier tier;
    kv_space space;
    kv_journal journal;
    kv_eviction *eviction;  /* cache mode */
    uint64_t eviction_expected; /* objects it is prepared for */
    bool evicts_itself;     /* cache mode; else others choose by victims.c, and `wanted` tells them */
    void (*wanted)(void *context);
    void *wanted_context;
    kv_list transfers;      /* free ones */
    kv_list transfer_slabs;
    kv_list memory_waiters; /* operations waiting for a frame */
    kv_list space_waiters;  /* operations waiting for an extent */
    kv_list unwritten_waiters; /* flushes that wait for background writes */
    uint64_t unwritten_counts[2]; /* values answered at durability memory that the device does not hold yet */
    uint64_t unwritten_epoch;     /* by the parity of the epoch they began in; a flush begins a new one */
    uint64_t delete_sequence;  /* of the last delete by a client */
    uint64_t removal_sequence; /* of the last delete of any kind: a client's delete depends on it */
    uint64_t version_max;      /* highest version of an object, those that are gone included */
    uint64_t last_flush_ms;
    uint64_t expiry_cursor;
    uint64_t scan_now_ms;
    bool checkpointing;
    uint64_t checkpoint_size; /* bytes of the last one */
    int offline;            /* errno of the failure that took the target offline */
    bool read_only;
    uint64_t batch;         /* counts batches, for the eviction policies */
    uint64_t operation_count; /* not answered yet; the engine's own, too */
    kv_caller_region *regions;
    uint32_t region_count;
    uint64_t direct_count;  /* values that the device moves from or to them now */
    uint64_t fill_count;    /* device reads into frames that are out, also for operations that were aborted */
    uint64_t sets_coming; /* small sets that will append soon: a flush waits for them */
    uint64_t kept_size;   /* of the DRAM tier, by operations that keep their values */
    uint64_t held_objects; /* items of held sets that may become objects of their own */
    kv_store_statistics statistics;
    kv_io_watch io_watch;   /* of values and of the journal */
    kv_damage damage;
};

typedef enum kv_work_state {
    KV_WORK_NEW = 0,
    KV_WORK_STAGED,   /* set: everything is reserved, its bytes are being copied */
    KV_WORK_WAITING,  /* get: for a sequence; set: nothing yet */
    KV_WORK_READING,  /* on its frame's waiters */
    KV_WORK_READY,    /* its frame is filled: copy out */
    KV_WORK_WRITING,
    KV_WORK_WRITTEN,
    KV_WORK_APPENDED, /* waits for its sequence */
    KV_WORK_CLOSED,   /* holds nothing any more */
    KV_WORK_LENT      /* its frame is held until it is returned */
} kv_work_state;

struct kv_work {
    kv_list link; /* on a frame's waiters or the operation's ready list */
    kv_operation *operation;
    kv_object *object;
    kv_frame *frame;
    kv_frame *staging;   /* packed values: set: the run's memory, held by its first work; get: a small frame to cache it in */
    uint8_t *direct_source; /* set: the caller's memory */
    kv_extent *pieces;   /* &extent, or an array when scattered */
    kv_extent extent;
    uint64_t hash;
    uint64_t sequence;
    uint32_t size;       /* of the value, copied for use without the lock */
    uint32_t checksum;
    uint32_t received;   /* receive: bytes of the value that have come */
    uint32_t pending;    /* device writes out */
    uint32_t run;        /* set: of values written together: 1 + the index of the first of them */
    uint16_t piece_count;
    uint8_t state;
    uint32_t position;   /* packed: where in the run's memory */
    uint8_t packed;
    uint8_t direct;      /* the device moves the caller's own memory; not answered before it is done */
    uint8_t answered;
    uint8_t linked;      /* set at durability memory: findable before it is stored */
    uint8_t epoch;       /* parity of the one in which it was linked */
    uint8_t outcome;     /* kv_status once visible */
    uint8_t given;       /* kv_status once answered */
    uint8_t retried;
    uint8_t awaits;      /* receive: it has its memory, and bytes are to come; the stepping thread's */
    uint8_t intact;      /* get: the copy matched its checksum */
    uint8_t held;        /* counted in kv_space.held_count */
    uint8_t promised;    /* counted in held_objects */
    int32_t error;
};

struct kv_operation {
    kv_engine *engine;
    kv_request *request;   /* NULL once answered */
    void *owner;
    kv_work *works;
    uint32_t *order;       /* lend: items in the order in which they got their status */
    kv_list ready;         /* works to copy */
    kv_list wait;          /* on one of the engine's waiter lists */
    kv_list wait_journal;
    kv_gather own;         /* device operations built under the lock, submitted outside */
    kv_gather *gather;     /* of the step, when they are submitted by its caller */
    uint64_t wait_sequence;
    uint64_t seen_sequence; /* keys: the latest update this answer depends on */
    uint64_t held_size;
    uint32_t kind;
    uint32_t count;
    uint32_t next;         /* first item not begun */
    uint64_t awaited_size; /* receive: bytes that have memory and have not come; the stepping thread's, as are the next three */
    uint64_t came_size;    /* receive: bytes that have come since the last write began */
    uint32_t came_next;    /* receive: first item that has not come */
    uint32_t write_next;   /* set: first item whose write has not begun */
    uint32_t append_next;  /* set: first item not appended */
    uint32_t close_next;   /* set: first item not closed */
    uint32_t done_count;
    uint32_t waiting_count; /* get: items in KV_WORK_WAITING */
    uint32_t outstanding;  /* device writes out */
    uint32_t named_count;  /* lend: items that kv_operation_next told; the stepping thread's */
    uint32_t lent_count;   /* lend: values held for the caller, named or not */
    bool running;          /* being stepped, or `ready` was called */
    bool again;            /* something happened while it ran */
    bool waits_visible;    /* wait_sequence counts against visible, else against flushed */
    bool if_absent;
    bool held;             /* receive: nothing is set before it is settled */
    bool settled;
    bool retained;         /* receive: the memory of values stays, until it is released */
    bool keeps;            /* receive: held, or retained when it began */
    bool versioned;        /* receive: see KV_REQUEST_VERSIONED and KV_REQUEST_EXACT */
    bool exact;
    bool evicts;           /* delete: see KV_REQUEST_EVICTS */
    bool forsaken;         /* receive: no space will come, do not wait for it */
    bool unstepped;        /* receive: a value is complete and no step has seen it; the stepping thread's */
    bool coming;           /* counted in sets_coming */
    bool complete;         /* every item has its status */
    bool late;             /* set at durability memory: from here on values are linked when they are stored */
    uint64_t flush_epoch;  /* flush: values answered in this epoch and before it must be written, 0: not chosen yet */
    bool closed;           /* set: every work is closed */
    bool answered;
    uint32_t abort_status; /* kv_status to give to unfinished items, 0: none asked for */
    uint64_t batch;        /* number of the batch, for the eviction policies */
};

/* Requests of the engine's own. MOVE: set the value at a new place if the object still has the version in stats[i]. READ_DEVICE: a get that
 * goes to the device and leaves the DRAM tier as it is; value 0 only verifies. */
#define KV_OP_MOVE 100u
#define KV_OP_READ_DEVICE 101u

static inline uint32_t kv_round_up(uint32_t size, uint32_t unit)
{
    return (size + unit - 1) / unit * unit;
}

/* engine.c */
/* printf into a message of KV_MESSAGE_SIZE bytes, or nowhere when it is NULL. */
void kv_engine_explain(char *message, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kv_engine_count_set(kv_engine *engine, uint32_t size);
static inline uint64_t kv_engine_now(const kv_engine *engine)
{
    return engine->options.now_ms(engine->options.clock);
}
/* Locked: no update can be promised any more; everyone waiting is told. */
void kv_engine_fail(kv_engine *engine, int error);
/* Locked: sequences up to this are shown to readers and answered to writers. */
uint64_t kv_engine_visible(const kv_engine *engine);
/* Locked: the expired count as absent. */
bool kv_object_expired(const kv_object *object, uint64_t now_ms);
/* Locked: hold and let go of an object; a dead one is freed with its last holder once its extents may go. */
void kv_object_hold(kv_object *object);
void kv_object_release(kv_engine *engine, kv_object *object);
/* Locked: the device pieces of a stored object; returns their count. */
uint32_t kv_object_pieces(const kv_engine *engine, const kv_object *object, kv_extent pieces[KV_SLAB_PIECES_MAX]);
/* Fill in size, checksum, pieces. -ENOMEM: the side record could not be had. */
int kv_object_set_pieces(kv_engine *engine, kv_object *object, const kv_extent *pieces, uint32_t count, bool packed);

/* operation.c. Locked. */
void kv_operation_wake(kv_operation *operation);
void kv_operation_wake_all(kv_list *waiters);
void kv_operation_wait_sequence(kv_operation *operation, uint64_t sequence, bool visible);
/* Locked: queue a device operation for the end of the step. -ENOMEM. */
int kv_operation_queue(kv_operation *operation, kv_transfer *transfer);

/* operation_get.c, operation_set.c, operation_keys.c: one step (abort included) without the lock held on entry; true when it made progress. */
bool kv_get_step(kv_operation *operation);
bool kv_set_step(kv_operation *operation);
bool kv_keys_step(kv_operation *operation);
void kv_operation_submit(kv_operation *operation);
/* set_append.c. Locked: a set moves on by itself, on whichever thread brought the news, and wakes its own only for what needs it. */
void kv_set_progress(kv_operation *operation);
/* Locked: let go of a frame; operations that wait for memory go on. */
void kv_engine_release_frame(kv_engine *engine, kv_frame *frame);
/* Locked: give an item its status. */
void kv_operation_finish(kv_operation *operation, uint32_t item, kv_status status);

/* transfer.c. Locked: cut the memory and the pieces of a value into device operations and queue them. Completions go to the works of
 * `works` (a set, or a get into the caller's memory), or without works to the waiters of the frame (a fill). -ENOMEM. */
int kv_transfer_build(kv_operation *operation, kv_io_kind kind, const kv_transfer_memory *memory,
                      const kv_extent *pieces, const kv_work_range *works);
void kv_transfer_pool_close(kv_engine *engine);

/* caller_region.c. Locked: whether these bytes lie in one registered region. */
bool kv_engine_registered(const kv_engine *engine, uint64_t address, uint64_t size);

/* tier.c: the DRAM tier. Locked, but for kv_frame_range on a held frame. */
int kv_tier_open(kv_tier *tier, void *memory, uint64_t size, kv_index *index);
void kv_tier_close(kv_tier *tier);
/* The largest span that will fit once everything else has gone. */
uint32_t kv_tier_span_max(const kv_tier *tier);
/* A detached frame of `span` bytes with one holder, evicting what must go; NULL: nothing can go now. */
kv_frame *kv_tier_allocate(kv_tier *tier, uint32_t span, uint32_t size);
void kv_tier_attach(kv_tier *tier, kv_frame *frame, kv_object *object, uint64_t hash, uint32_t rank, uint64_t batch);
void kv_tier_detach(kv_tier *tier, kv_object *object);
void kv_tier_move(kv_tier *tier, kv_object *from, kv_object *to);
void kv_tier_touch(kv_tier *tier, kv_frame *frame, uint32_t rank, uint64_t batch);
void kv_tier_release(kv_tier *tier, kv_frame *frame);
kv_frame *kv_tier_at(const kv_tier *tier, uint32_t handle);
/* The longest run of memory that begins at byte `position` of the frame. */
uint8_t *kv_frame_range(const kv_tier *tier, const kv_frame *frame, uint32_t position, uint32_t *size);
/* Copy `size` bytes of `source`, from byte `begin` on, to where the other one begins. */
void kv_frame_copy(const kv_tier *tier, const kv_frame *target, const kv_frame *source, uint32_t begin,
                   uint32_t size);
/* Where bytes [position, position + size) of the frame are; returns the number of ranges, at most KV_LENT_RANGES_MAX. */
uint32_t kv_frame_ranges(const kv_tier *tier, const kv_frame *frame, uint32_t position, uint32_t size,
                         struct iovec *ranges);

/* space.c: extents of the device. Locked. */
int kv_space_open(kv_engine *engine, uint64_t slab_size, uint64_t space_size);
void kv_space_close(kv_engine *engine);
/* Reserve extents; grows the slab file when needed. -ENOSPC; -EAGAIN: space is in quarantine or can be evicted, wait on space_waiters. */
int kv_space_allocate(kv_engine *engine, uint32_t size, bool ideal, kv_extent pieces[KV_SLAB_PIECES_MAX]);
int kv_space_allocate_pack(kv_engine *engine, uint32_t size, uint32_t live_size, bool compacts,
                           kv_extent *extent);
/* Compaction is over: whoever waits for space tries again. */
void kv_space_compacted(kv_engine *engine, bool freed);
void kv_space_free(kv_engine *engine, const kv_extent *pieces, uint32_t count);
/* So many values whose extents were counted in staged_count have a record now, or gave their extents back. */
void kv_space_settle(kv_engine *engine, uint32_t count);
/* An unlinked, dead object: its extents go back after `sequence` is flushed and its holders are gone. */
int kv_space_retire(kv_engine *engine, kv_object *object, uint64_t sequence);
/* After a flush: free what it covers, wake waiters. */
void kv_space_release(kv_engine *engine);
/* Cache mode: evict about `size` bytes; returns bytes evicted. */
uint64_t kv_space_evict(kv_engine *engine, uint64_t size);
bool kv_space_evict_one(kv_engine *engine);
/* Bytes of extents. */
uint64_t kv_space_of(const kv_engine *engine, const kv_object *object);
/* Cache mode: what is missing to the share that is to be free. */
uint64_t kv_space_below_watermark(const kv_engine *engine);

/* journal.c. Locked. */
int kv_journal_open(kv_engine *engine);
void kv_journal_close(kv_engine *engine);
/* Append a record: its sequence, or 0 when the buffer is full (wait for a group to be written). */
/* Locked: whether something may begin, with room in the journal's file for what is under way and `margin` bytes more; the file grows where it can. So a full
 * file system is an answer, and not the end of the target. -EAGAIN: a checkpoint that empties the journal is due, wait for space until
 * then. -ENOSPC: the last one found no room either. */
int kv_journal_admit(kv_engine *engine, uint64_t margin);
/* Locked: a checkpoint has ended. */
void kv_journal_checkpointed(kv_engine *engine, bool vain);
uint64_t kv_journal_append(kv_engine *engine, const kv_record *record);
bool kv_journal_has_room(const kv_engine *engine, size_t size);
/* Begin writing what was appended, and flushing what is waited for. */
void kv_journal_kick(kv_engine *engine);
void kv_journal_want_flush(kv_engine *engine);
kv_file kv_journal_file(uint64_t generation);
/* Locked on entry and return: sleep until the journal moved. -ECANCELED: it never will. */
int kv_engine_sleep(kv_engine *engine);
/* Unlocked, for open, checkpoint and close: wait until everything appended is written, and flushed if asked. */
int kv_journal_settle(kv_engine *engine, bool flush);
int kv_journal_write_header(kv_engine *engine, uint64_t generation);

/* update.c. Locked: the ways an object changes, each with its record and its sequence. The journal has room (KV_RECORD_SIZE_MAX). */

/* Whether a new object is pinned: as the one that it replaces, or as it says itself. */
typedef enum kv_pinning { KV_PINNED_AS_BEFORE = 0, KV_PINNED_AS_IT_IS = 1 } kv_pinning;
uint64_t kv_update_set(kv_engine *engine, kv_object *object, uint64_t hash, uint32_t rank, kv_pinning pinning);
uint64_t kv_update_delete(kv_engine *engine, kv_object *object, uint64_t hash, uint8_t flags);
uint64_t kv_update_pin(kv_engine *engine, kv_object *object, bool pinned);
/* `object` is the same version of its key at a new place. */
uint64_t kv_update_move(kv_engine *engine, kv_object *object, uint64_t hash);
/* Durability memory, in two parts: link an object that is not stored yet, and record it once it is. */
void kv_update_link(kv_engine *engine, kv_object *object, uint64_t hash, uint32_t rank, kv_pinning pinning);
int kv_update_store(kv_engine *engine, kv_object *object, const kv_extent *pieces, uint32_t count, bool packed);
void kv_record_of(const kv_engine *engine, const kv_object *object, kv_record *record);

#endif
