/* The unflushed tail of the journal after a power cut: its records are there, their values perhaps not.
 *
 * For each key the updates of the tail are tried from the newest back; the first whose value matches
 * its checksum is what the key holds, and before the oldest of them what the flushed part says. That is
 * safe because an extent is reused only after the record that freed it was flushed: if the
 * newest update did not reach the device, it did not free anything yet. An older update of the
 * tail may have been overwritten for good reason, which is why only the newest counts. */

#include "engine/recovery.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TAIL_CAPACITY_FIRST 256u
#define TAIL_READ_SIZE (1u << 20)

int kv_recovery_set_aside(kv_recovery *recovery, uint64_t sequence, bool doubtful)
{
    kv_tail *tail = &recovery->tail;
    const kv_record *record = &recovery->record;
    kv_tail_record *entry;

    if (record->key_size == 0)
        return 0; /* OPEN and CLOSE change no key */
    if (tail->count == tail->capacity) {
        size_t capacity = tail->capacity ? tail->capacity * 2 : TAIL_CAPACITY_FIRST;
        kv_tail_record *records = realloc(tail->records, capacity * sizeof(*records));

        if (!records)
            return -ENOMEM;
        tail->records = records;
        tail->capacity = capacity;
    }
    entry = &tail->records[tail->count];
    entry->size = (uint32_t)kv_record_size(record);
    entry->bytes = malloc(entry->size + record->key_size);
    if (!entry->bytes)
        return -ENOMEM;
    kv_record_encode(record, entry->bytes);
    memcpy(entry->bytes + entry->size, record->key, record->key_size);
    entry->key = entry->bytes + entry->size;
    entry->key_size = record->key_size;
    entry->sequence = sequence;
    entry->doubtful = doubtful;
    tail->count++;
    return 0;
}

void kv_recovery_free_tail(kv_recovery *recovery)
{
    for (size_t i = 0; i < recovery->tail.count; i++)
        free(recovery->tail.records[i].bytes);
    free(recovery->tail.records);
    recovery->tail = (kv_tail){0};
}

static bool same_key(const kv_tail_record *a, const kv_tail_record *b)
{
    return a->key_size == b->key_size && memcmp(a->key, b->key, a->key_size) == 0;
}

static int compare(const void *left, const void *right)
{
    const kv_tail_record *a = left;
    const kv_tail_record *b = right;
    int order;

    if (a->key_size != b->key_size)
        return a->key_size < b->key_size ? -1 : 1;
    order = memcmp(a->key, b->key, a->key_size);
    return order ? order : (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

/* Add a piece's bytes, at most `left`, to the checksum. A piece beyond the file's end counts as unreadable. */
static int piece_checksum(kv_recovery *recovery, const kv_extent *piece, uint32_t left, uint8_t *memory,
                          uint32_t *checksum)
{
    uint64_t position = piece->offset;
    uint64_t end = position + (piece->size < left ? piece->size : left);

    while (position < end) {
        uint32_t skip = (uint32_t)(position % KV_PAGE_SIZE);
        uint32_t size = end - position < TAIL_READ_SIZE ? (uint32_t)(end - position) : TAIL_READ_SIZE;
        kv_io io = {.kind = KV_IO_READ,
                    .file = KV_FILE_SLABS,
                    .offset = KV_SLABS_START + position - skip,
                    .size = kv_round_up(skip + size, KV_PAGE_SIZE),
                    .memory = memory};
        int64_t result = kv_device_run(recovery->engine->device, &io);

        if (result < 0)
            return (int)result;
        *checksum = kv_checksum(*checksum, memory + skip, size);
        position += size;
    }
    return 0;
}

/* 1: the device holds the value that recovery->record names; 0: it does not. */
static int value_intact(kv_recovery *recovery)
{
    const kv_record *record = &recovery->record;
    uint32_t left = record->size;
    uint32_t checksum = 0;
    uint8_t *memory;
    int result = 0;

    if (posix_memalign((void **)&memory, KV_PAGE_SIZE, TAIL_READ_SIZE + 2 * KV_PAGE_SIZE) != 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < record->piece_count && result == 0; i++) {
        const kv_extent *piece = &record->pieces[i];

        result = piece_checksum(recovery, piece, left, memory, &checksum);
        left -= piece->size < left ? piece->size : left;
    }
    free(memory);
    if (result == -ENODATA)
        return 0;
    return result < 0 ? result : checksum == record->checksum;
}

static int drop(kv_recovery *recovery, const kv_tail_record *entry)
{
    kv_dropped *dropped = malloc(sizeof(*dropped) + entry->key_size);

    if (!dropped)
        return -ENOMEM;
    dropped->key_size = entry->key_size;
    memcpy(dropped->key, entry->key, entry->key_size);
    kv_list_append(&recovery->dropped, &dropped->link);
    return 0;
}

static void decode(kv_recovery *recovery, const kv_tail_record *entry)
{
    int64_t used = kv_record_decode(entry->bytes, entry->size, &recovery->record);

    assert(used == (int64_t)entry->size);
    (void)used;
}

/* 1: this update stands. */
static int stands(kv_recovery *recovery, const kv_tail_record *entry)
{
    const kv_record *record = &recovery->record;

    decode(recovery, entry);
    if (record->kind == KV_RECORD_DELETE)
        return 1;
    if (record->kind != KV_RECORD_SET && record->kind != KV_RECORD_MOVE)
        return 0; /* a pin changes no value */
    return entry->doubtful ? value_intact(recovery) : 1;
}

/* A move that stands brings its object along, whatever the index holds. */
static int apply_standing(kv_recovery *recovery, const kv_tail_record *entry)
{
    uint64_t sequence = entry->sequence;

    decode(recovery, entry);
    if (recovery->record.kind == KV_RECORD_MOVE) {
        recovery->record.kind = KV_RECORD_SET;
        sequence = recovery->record.sequence_of;
        kv_recovery_remove(recovery, entry->key, entry->key_size);
    }
    return kv_recovery_apply(recovery, &recovery->record, sequence);
}

/* All updates of one key, oldest first. */
static int judge_key(kv_recovery *recovery, const kv_tail_record *entries, size_t count)
{
    size_t standing = count;
    bool dropped = false;
    int result = 0;

    while (standing > 0 && result == 0) {
        const kv_tail_record *entry = &entries[--standing];

        result = stands(recovery, entry);
        if (result < 0)
            return result;
        if (result == 0 && (recovery->record.kind == KV_RECORD_SET ||
                            recovery->record.kind == KV_RECORD_MOVE)) {
            dropped = true;
            recovery->engine->statistics.recovery_dropped++;
        }
    }
    if (result == 1 && apply_standing(recovery, &entries[standing]) < 0)
        return -ENOMEM;
    for (size_t i = result == 1 ? standing + 1 : 0; i < count; i++) {
        decode(recovery, &entries[i]);
        if (recovery->record.kind == KV_RECORD_PIN || recovery->record.kind == KV_RECORD_UNPIN)
            kv_recovery_apply(recovery, &recovery->record, entries[i].sequence);
    }
    return dropped ? drop(recovery, &entries[0]) : 0;
}

int kv_recovery_judge_tail(kv_recovery *recovery)
{
    kv_tail *tail = &recovery->tail;
    int result = 0;

    if (tail->count > 0)
        qsort(tail->records, tail->count, sizeof(*tail->records), compare);
    for (size_t i = 0; i < tail->count && result == 0;) {
        size_t count = 1;

        while (i + count < tail->count && same_key(&tail->records[i], &tail->records[i + count]))
            count++;
        result = judge_key(recovery, &tail->records[i], count);
        i += count;
    }
    return result;
}
