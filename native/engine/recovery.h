/* Shared by the files that open an existing target. */
#ifndef KV_RECOVERY_H
#define KV_RECOVERY_H

#include "engine/engine_state.h"

#define KV_RECOVERY_READ_SIZE (1u << 20)                /* of one device operation */
#define KV_RECOVERY_BUFFER_SIZE (2u * KV_GROUP_SIZE_MAX) /* any group that begins in its first half is whole */
#define KV_RECOVERY_CLASS_SHIFT 40                       /* until claimed, a piece's unit carries its slab class above this bit */

/* A record of the unflushed tail, set aside until all of them are known. */
typedef struct kv_tail_record {
    uint64_t sequence;
    uint8_t *bytes; /* encoded */
    uint32_t size;
    uint16_t key_size;
    const uint8_t *key; /* within bytes */
    bool doubtful;  /* a power cut came after it: its value must be looked at */
} kv_tail_record;

typedef struct kv_tail {
    kv_tail_record *records;
    size_t count;
    size_t capacity;
} kv_tail;

typedef struct kv_recovery {
    kv_engine *engine;
    char *message;
    uint8_t *buffer;
    kv_record record;       /* scratch: it is large */
    uint64_t expected;      /* sequence of the next record */
    uint64_t run;           /* of the group before */
    uint64_t incarnation;   /* in which that run was */
    uint64_t flushed;       /* everything up to here was flushed, say the groups found */
    kv_tail tail;
    kv_list dropped;        /* keys whose last update was lost in a power cut */
} kv_recovery;

typedef struct kv_dropped {
    kv_list link;
    uint16_t key_size;
    uint8_t key[];
} kv_dropped;

/* Read into the buffer; on failure the message says where. */
int kv_recovery_read(kv_recovery *recovery, kv_file file, uint64_t offset, uint32_t size);
int kv_recovery_refuse(kv_recovery *recovery, kv_file file, uint64_t offset, const char *what);
/* 0 and the fields; -ENODATA: never written, or torn; else refused. */
int kv_recovery_read_header(kv_recovery *recovery, kv_file file, kv_header_kind kind, kv_header *header);
/* Give the memory of an unlinked object back; its space is not claimed yet. */
void kv_recovery_forget(kv_recovery *recovery, kv_object *object);
void kv_recovery_remove(kv_recovery *recovery, const void *key, uint16_t key_size);
/* Apply one record; older than what is there already: no effect. */
int kv_recovery_apply(kv_recovery *recovery, const kv_record *record, uint64_t sequence);

/* recovery_journal.c: replay what follows the checkpoint with this header, and leave the journal ready to go on
 * behind it. */
int kv_recovery_replay(kv_recovery *recovery, const kv_header *checkpoint);

/* recovery_tail.c: take a record (recovery->record) of the tail; then give each key the newest update whose value is there. */
int kv_recovery_set_aside(kv_recovery *recovery, uint64_t sequence, bool doubtful);
int kv_recovery_judge_tail(kv_recovery *recovery);
void kv_recovery_free_tail(kv_recovery *recovery);

#endif
