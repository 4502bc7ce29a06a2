/* What the engine writes to storage, byte by byte: file headers, journal groups, checkpoint blocks.
 * Pure encoders and decoders over memory; they check everything they read and trust nothing.
 * All integers are little-endian; numbers above a drawing are offsets in bytes.
 *
 * File header: the first 4096 bytes of every file (superblock, slabs, journal-N, checkpoint-N).
 *
 *   0          8         12     16             32        96           4092     4096
 *   +----------+---------+------+--------------+---------+------------+--------+
 *   | magic    | version | kind | store's uuid | fields  | zero       | crc    |
 *   | CRAQ-KVS | u32     | u32  | 16 bytes     | 8 x u64 | 3996 bytes | u32    |
 *   +----------+---------+------+--------------+---------+------------+--------+
 *
 *   crc: CRC-32C of bytes 0 ... 4092. Every format version keeps magic, version and crc in place.
 *
 * Journal group: a header, records without gaps, zeros up to a multiple of 4096. One write.
 *
 *   0       4     8      12      16      24        32    40           48      56   64   64+size
 *   +-------+-----+------+-------+-------+---------+-----+------------+-------+----+----+------+
 *   | magic | crc | size | count | first | flushed | run | generation | store |zero|rec.| zero |
 *   | KVJG  | u32 | u32  | u32   | u64   | u64     | u64 | u64        | u64   |u64 |    |      |
 *   +-------+-----+------+-------+-------+---------+-----+------------+-------+----+----+------+
 *
 *   crc: of bytes 8 ... 64+size. size: of the records. count: of records; 0 with size 0 only.
 *   first: sequence of the first record; the i-th record has first + i.
 *   flushed: the sequence up to which everything was flushed when this group was written; never
 *   beyond first.
 *   run: drawn anew at each open, so that groups left over from an earlier life never continue a
 *   newer one; a group's predecessor in the file has the same run, or belongs to the previous life
 *   whose end was cut here.
 *   generation: of the journal file (checkpoint number it follows). store: low 8 bytes of the uuid.
 *
 * Checkpoint block: the same with magic KVCB; first counts blocks from 0, flushed is the writer's
 * to use, and every record is a SET that carries its object's sequence.
 *
 * Record, unaligned. SET and MOVE:
 *
 *   0      1       2          4      8          12          20      22            k-8       k
 *   +------+-------+----------+------+----------+-----------+-------+-------------+---------+-----+--------+
 *   | kind | flags | key_size | size | checksum | expiry_ms | piece | sequence_of | version | key | pieces |
 *   | u8   | u8    | u16      | u32  | u32      | u64       | count | u64 or none | or none |     |        |
 *   +------+-------+----------+------+----------+-----------+-------+-------------+---------+-----+--------+
 *
 *   The piece count is a u16. The sequence is there with flag SEQUENCED (every MOVE, every record of
 *   a checkpoint); the version, a u64 too, with flag VERSIONED (objects of a chain). So k is 22, 30 or 38.
 *
 * Piece:                      DELETE, PIN, UNPIN:                 OPEN:
 *   0             5       6   0      1       2          4         0      1       2             10
 *   +-------------+-------+   +------+-------+----------+-----+   +------+-------+-------------+
 *   | offset / 64 | class |   | kind | flags | key_size | key |   | kind | flags | incarnation |
 *   | u40         | u8    |   | u8   | u8    | u16      |     |   | u8   | u8    | u64         |
 *   +-------------+-------+   +------+-------+----------+-----+   +------+-------+-------------+
 *
 *   CLOSE is kind and flags alone. A piece's size is not stored: it is its class's size, or in a
 *   pack the value's size rounded up to KV_SLAB_UNIT. */
#ifndef KV_FORMAT_H
#define KV_FORMAT_H

#include "engine/slab.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KV_FORMAT_VERSION 2u
#define KV_PAGE_SIZE 4096u
#define KV_GROUP_HEADER_SIZE 64u
#define KV_GROUP_SIZE_MAX (4u << 20) /* of a whole group with header and padding */
#define KV_CHECKPOINT_BLOCK_SIZE_MAX (4u << 20)
#define KV_KEY_SIZE_MAX 1152u /* a public key of 1024 bytes with the names that a node puts before it */
#define KV_VALUE_SIZE_MAX (64u << 20)
#define KV_PIECE_SIZE 6u         /* as stored in a record */
#define KV_PIECE_OFFSET_BITS 46u /* extents end at or below 64 TiB */
#define KV_RECORD_SIZE_MIN 2u
#define KV_RECORD_SIZE_MAX (38u + KV_KEY_SIZE_MAX + KV_PIECE_SIZE * KV_SLAB_PIECES_MAX)

_Static_assert(KV_GROUP_SIZE_MAX % KV_PAGE_SIZE == 0, "groups are written in whole pages");
_Static_assert(KV_CHECKPOINT_BLOCK_SIZE_MAX % KV_PAGE_SIZE == 0, "so are blocks");
_Static_assert(KV_GROUP_HEADER_SIZE + KV_RECORD_SIZE_MAX <= KV_PAGE_SIZE, "any record fits a page");

typedef enum kv_header_kind {
    KV_HEADER_SUPERBLOCK = 1,
    KV_HEADER_SLABS = 2,
    KV_HEADER_JOURNAL = 3,
    KV_HEADER_CHECKPOINT = 4
} kv_header_kind;

/* Fields of a superblock: slab_size, space_size (0: grows), created_ms, flags. Of a journal:
 * generation, sequence (of the first record to come). Of a checkpoint: generation, sequence (every
 * update up to it is inside), count (objects), end (bytes of the file in use), run, incarnation,
 * version (highest of any object). */
typedef struct kv_header {
    kv_header_kind kind;
    uint8_t uuid[16];
    uint64_t fields[8];
} kv_header;

/* Fills 4096 bytes. */
void kv_header_encode(const kv_header *header, void *page);
/* 0, or: -ENODATA all zeros (never written), -EBADMSG wrong magic, -EPROTO right magic but a wrong
 * checksum (or bytes that must be zero and are not), -ENOTSUP another format version, -EINVAL
 * another kind of file. *version is the file's format version wherever the checksum is right, else
 * 0. *header is filled with result 0 only. */
int kv_header_decode(const void *page, kv_header_kind kind, kv_header *header, uint32_t *version);

typedef enum kv_record_kind {
    KV_RECORD_SET = 1,
    KV_RECORD_DELETE = 2, /* by a client, by expiry or by eviction: see flags */
    KV_RECORD_PIN = 3,
    KV_RECORD_UNPIN = 4,
    KV_RECORD_MOVE = 5, /* the value now lies elsewhere (compaction); same fields as SET */
    KV_RECORD_OPEN = 6,
    KV_RECORD_CLOSE = 7
} kv_record_kind;

typedef struct kv_record {
    kv_record_kind kind;
    uint8_t flags;
    uint16_t key_size;
    uint16_t piece_count;
    uint32_t size;
    uint32_t checksum;
    uint64_t expiry_ms;   /* 0: never; OPEN: incarnation */
    uint64_t sequence_of; /* MOVE, checkpoint: the object's own sequence, not 0; else 0 */
    uint64_t version;     /* SET, MOVE: the object's in its chain, 0: it has none */
    const void *key;      /* decoding: into the input; NULL where the kind has none */
    kv_extent pieces[KV_SLAB_PIECES_MAX];
} kv_record;

#define KV_RECORD_FLAG_PINNED 1u  /* SET, MOVE */
#define KV_RECORD_FLAG_PACKED 2u  /* SET, MOVE: the single piece is a byte range of a pack */
#define KV_RECORD_FLAG_EXPIRED 4u /* DELETE: one of this and the next, or neither */
#define KV_RECORD_FLAG_EVICTED 8u /* DELETE */
/* On storage only: encode sets them where sequence_of and version are not 0, decode takes them away. */
#define KV_RECORD_FLAG_SEQUENCED 16u
#define KV_RECORD_FLAG_VERSIONED 32u

/* Bytes the record takes; encode writes exactly that many. Only what the kind carries matters.
 * Encode asserts what decode refuses. An expiry that no kv_object can hold is stored as what the
 * object would hold instead (kv_object_set_expiry_ms). */
size_t kv_record_size(const kv_record *record);
size_t kv_record_encode(const kv_record *record, void *target);
/* Bytes consumed, or -EBADMSG: short input, unknown kind, a flag the kind does not have, sizes
 * beyond limits, an expiry, sequence or version no object can hold, pieces that are no legal extents or do not fit the
 * value (all but the last are wholly used, the last is used).
 * Fields that the kind does not carry become 0, pieces beyond piece_count are left alone. Whether
 * extents overlap, lie inside the space and suit their slab is kv_slab_claim's to say; whether a
 * record of this kind, with or without sequence_of, belongs in its place is the reader's. */
int64_t kv_record_decode(const void *source, size_t size, kv_record *record);

typedef struct kv_group {
    uint32_t size; /* of the records */
    uint32_t count;
    uint64_t first;
    uint64_t flushed;
    uint64_t run;
    uint64_t generation;
    uint64_t store;
} kv_group;

/* Records lie at target + KV_GROUP_HEADER_SIZE already; writes the header and zero padding, returns
 * the padded size. */
size_t kv_group_seal(const kv_group *group, void *target);
/* `source` has `available` bytes. 0, -ENODATA (no group magic here), or -EBADMSG (magic but wrong
 * checksum, size, bounds or padding). -EAGAIN when the header is plausible but the group with its
 * padding is longer than `available`: at the end of a file that is a torn group.
 * *group is filled with 0 only. The records are not looked at. */
int kv_group_open(const void *source, size_t available, kv_group *group);
/* Of a group or block with `size` bytes of records. */
size_t kv_group_padded_size(uint32_t size);

/* The same for checkpoint blocks: `first` counts blocks from 0. */
size_t kv_block_seal(const kv_group *block, void *target);
int kv_block_open(const void *source, size_t available, kv_group *block);

#endif
