/* Opening an existing target: newest checkpoint, then the journal behind it, then the claims of all
 * extents.
 *
 *   superblock -> checkpoint g -> journal g -> journal g+1 (a checkpoint was being written) -> claims
 *
 * What a crash can leave behind is repaired silently: a torn tail of the journal is cut, a record
 * whose value did not reach the device before a power cut gives way to the value before it. What
 * no crash can leave behind is refused with the file and the offset. */

#include "engine/recovery.h"
#include "engine/startup.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int kv_recovery_refuse(kv_recovery *recovery, kv_file file, uint64_t offset, const char *what)
{
    kv_engine_explain(recovery->message, "%s: %s at offset %llu", kv_file_name(file), what,
                      (unsigned long long)offset);
    return -EBADMSG;
}

int kv_recovery_read(kv_recovery *recovery, kv_file file, uint64_t offset, uint32_t size)
{
    kv_device *device = recovery->engine->device;
    uint32_t done = 0;

    assert(size <= KV_RECOVERY_BUFFER_SIZE);
    while (done < size) {
        kv_io io = {.kind = KV_IO_READ,
                    .file = file,
                    .offset = offset + done,
                    .size = size - done < KV_RECOVERY_READ_SIZE ? size - done : KV_RECOVERY_READ_SIZE,
                    .memory = recovery->buffer + done};
        int64_t result = kv_device_run(device, &io);

        if (result < 0) {
            kv_engine_explain(recovery->message, "%s: cannot be read at offset %llu: %s",
                              kv_file_name(file), (unsigned long long)io.offset,
                              strerror((int)-result));
            return (int)result;
        }
        done += io.size;
    }
    return 0;
}

/* Header of a file: 0 and its fields, -ENODATA when it was never written or torn, or refused. */
int kv_recovery_read_header(kv_recovery *recovery, kv_file file, kv_header_kind kind, kv_header *header)
{
    uint32_t version = 0;
    int64_t size = recovery->engine->device->operations->file_size(recovery->engine->device, file);
    int result;

    if (size < (int64_t)KV_PAGE_SIZE)
        return -ENODATA;
    result = kv_recovery_read(recovery, file, 0, KV_PAGE_SIZE);
    if (result < 0)
        return result;
    result = kv_header_decode(recovery->buffer, kind, header, &version);
    if (result == -ENOTSUP) {
        kv_engine_explain(recovery->message, "%s: format version %u, this program reads version %u",
                          kv_file_name(file), version, KV_FORMAT_VERSION);
        return result;
    }
    if (result == 0 && memcmp(header->uuid, recovery->engine->uuid, sizeof(header->uuid)) != 0) {
        kv_engine_explain(recovery->message, "%s: belongs to another store", kv_file_name(file));
        return -EBADMSG;
    }
    return result == 0 ? 0 : -ENODATA;
}

/* Until its extents are claimed an object remembers their slab classes: a single one's in `frame`. */
static void note_classes(kv_recovery *recovery, kv_object *object, const kv_record *record)
{
    uint64_t *units;

    if (!object->scattered) {
        object->frame = record->piece_count ? record->pieces[0].slab_class : 0;
        return;
    }
    units = kv_index_side_at(recovery->engine->index, (uint32_t)kv_object_location(object));
    for (uint32_t i = 0; i < record->piece_count; i++)
        units[i + 1] |= (uint64_t)record->pieces[i].slab_class << KV_RECOVERY_CLASS_SHIFT;
}

/* Put an object from a record into the index, over an older one. */
static int restore(kv_recovery *recovery, const kv_record *record, uint64_t sequence)
{
    kv_index *index = recovery->engine->index;
    uint64_t hash = kv_index_hash(index, record->key, record->key_size);
    kv_object *old = kv_index_find(index, hash, record->key, record->key_size);
    kv_object *object;
    bool packed = record->flags & KV_RECORD_FLAG_PACKED;

    if (old && kv_object_sequence(old) >= sequence && record->kind != KV_RECORD_MOVE)
        return 0;
    object = kv_index_create(index, record->key, record->key_size);
    if (!object)
        return -ENOMEM;
    object->size = record->size & (KV_VALUE_SIZE_MAX * 2 - 1);
    object->checksum = record->checksum;
    object->pinned = (record->flags & KV_RECORD_FLAG_PINNED) != 0;
    kv_object_set_expiry_ms(object, record->expiry_ms);
    kv_object_set_sequence(object, sequence);
    kv_object_set_version(object, record->version);
    if (record->version > recovery->engine->version_max)
        recovery->engine->version_max = record->version;
    if (kv_object_set_pieces(recovery->engine, object, record->pieces, record->piece_count, packed) < 0)
        return -ENOMEM;
    note_classes(recovery, object, record);
    if (!old)
        return kv_index_link(index, hash, object);
    kv_index_replace(index, hash, old, object);
    kv_recovery_forget(recovery, old);
    return 0;
}

void kv_recovery_forget(kv_recovery *recovery, kv_object *object)
{
    kv_index *index = recovery->engine->index;

    if (object->scattered) {
        uint32_t handle = (uint32_t)kv_object_location(object);
        const uint64_t *units = kv_index_side_at(index, handle);

        kv_index_side_free(index, handle, sizeof(uint64_t) * (units[0] + 1));
    }
    kv_index_destroy(index, object);
}

static int apply_move(kv_recovery *recovery, const kv_record *record)
{
    kv_index *index = recovery->engine->index;
    uint64_t hash = kv_index_hash(index, record->key, record->key_size);
    kv_object *old = kv_index_find(index, hash, record->key, record->key_size);

    if (!old || kv_object_sequence(old) != record->sequence_of)
        return 0;
    return restore(recovery, record, record->sequence_of);
}

void kv_recovery_remove(kv_recovery *recovery, const void *key, uint16_t key_size)
{
    kv_index *index = recovery->engine->index;
    uint64_t hash = kv_index_hash(index, key, key_size);
    kv_object *object = kv_index_find(index, hash, key, key_size);

    if (!object)
        return;
    kv_index_unlink(index, hash, object);
    kv_recovery_forget(recovery, object);
}

static void apply_delete(kv_recovery *recovery, const kv_record *record, uint64_t sequence)
{
    kv_index *index = recovery->engine->index;
    uint64_t hash = kv_index_hash(index, record->key, record->key_size);
    kv_object *old = kv_index_find(index, hash, record->key, record->key_size);

    if (old && kv_object_sequence(old) < sequence)
        kv_recovery_remove(recovery, record->key, record->key_size);
}

static void apply_pin(kv_recovery *recovery, const kv_record *record, uint64_t sequence)
{
    kv_index *index = recovery->engine->index;
    uint64_t hash = kv_index_hash(index, record->key, record->key_size);
    kv_object *object = kv_index_find(index, hash, record->key, record->key_size);

    if (object && kv_object_sequence(object) < sequence)
        object->pinned = record->kind == KV_RECORD_PIN;
}

int kv_recovery_apply(kv_recovery *recovery, const kv_record *record, uint64_t sequence)
{
    recovery->engine->statistics.recovered_records++;
    switch (record->kind) {
    case KV_RECORD_SET:
        return restore(recovery, record, sequence);
    case KV_RECORD_MOVE:
        return apply_move(recovery, record);
    case KV_RECORD_DELETE:
        apply_delete(recovery, record, sequence);
        return 0;
    case KV_RECORD_PIN:
    case KV_RECORD_UNPIN:
        apply_pin(recovery, record, sequence);
        return 0;
    default:
        return 0;
    }
}

static int checkpoint_block(kv_recovery *recovery, kv_file file, uint64_t offset, const kv_group *block)
{
    const uint8_t *records = recovery->buffer + KV_GROUP_HEADER_SIZE;
    uint32_t position = 0;

    for (uint32_t i = 0; i < block->count; i++) {
        int64_t used = kv_record_decode(records + position, block->size - position, &recovery->record);

        if (used < 0 || recovery->record.kind != KV_RECORD_SET || recovery->record.sequence_of == 0)
            return kv_recovery_refuse(recovery, file, offset + position, "an illegal record");
        if (restore(recovery, &recovery->record, recovery->record.sequence_of) < 0)
            return -ENOMEM;
        position += (uint32_t)used;
    }
    return 0;
}

static int load_checkpoint(kv_recovery *recovery, kv_file file, const kv_header *header)
{
    uint64_t end = header->fields[KV_CHECKPOINT_END];
    uint64_t offset = KV_PAGE_SIZE;
    uint64_t number = 0;
    int64_t size = recovery->engine->device->operations->file_size(recovery->engine->device, file);

    if ((uint64_t)size < end)
        return kv_recovery_refuse(recovery, file, (uint64_t)size, "truncated");
    while (offset < end) {
        uint64_t left = end - offset;
        uint32_t part = left < KV_CHECKPOINT_BLOCK_SIZE_MAX ? (uint32_t)left : KV_CHECKPOINT_BLOCK_SIZE_MAX;
        kv_group block;
        int result = kv_recovery_read(recovery, file, offset, part);

        if (result < 0)
            return result;
        if (kv_block_open(recovery->buffer, part, &block) < 0 || block.first != number ||
            block.generation != header->fields[KV_CHECKPOINT_GENERATION] ||
            block.store != recovery->engine->store_id)
            return kv_recovery_refuse(recovery, file, offset, "corruption");
        result = checkpoint_block(recovery, file, offset, &block);
        if (result < 0)
            return result;
        offset += kv_group_padded_size(block.size);
        number++;
    }
    if (kv_index_count(recovery->engine->index) != header->fields[KV_CHECKPOINT_COUNT])
        return kv_recovery_refuse(recovery, file, 0, "its number of objects is wrong: corruption");
    return 0;
}

static int choose_checkpoint(kv_recovery *recovery, kv_file *file, kv_header *header)
{
    bool found = false;

    for (int i = 0; i < 2; i++) {
        kv_file candidate = i ? KV_FILE_CHECKPOINT_1 : KV_FILE_CHECKPOINT_0;
        kv_header read;
        int result = kv_recovery_read_header(recovery, candidate, KV_HEADER_CHECKPOINT, &read);

        if (result < 0 && result != -ENODATA)
            return result;
        if (result < 0 || (found && read.fields[KV_CHECKPOINT_GENERATION] <
                                        header->fields[KV_CHECKPOINT_GENERATION]))
            continue;
        *file = candidate;
        *header = read;
        found = true;
    }
    return found ? 0 : kv_recovery_refuse(recovery, KV_FILE_CHECKPOINT_0, 0,
                              "neither checkpoint has a readable header: corruption");
}

typedef struct claims {
    kv_recovery *recovery;
    int error;
} claims;

static int claim_piece(claims *claimed, const kv_object *object, uint64_t unit, uint32_t slab_class)
{
    kv_engine *engine = claimed->recovery->engine;
    bool packed = slab_class == KV_SLAB_CLASS_PACK;
    kv_extent extent = {
        .offset = unit * KV_SLAB_UNIT,
        .size = packed ? kv_round_up(object->size, KV_SLAB_UNIT) : kv_slab_class_size(slab_class),
        .slab_class = slab_class,
    };
    int error = kv_slab_claim(engine->space.slabs, &extent);

    if (error == -ENOMEM)
        return error;
    if (error < 0)
        return kv_recovery_refuse(claimed->recovery, KV_FILE_SLABS, KV_SLABS_START + extent.offset,
                                  error == -EEXIST ? "two objects claim the extent"
                                                   : "an object claims an impossible extent");
    return 0;
}

static void claim(void *context, kv_object *object)
{
    claims *claimed = context;
    kv_engine *engine = claimed->recovery->engine;
    uint64_t *units;

    engine->statistics.value_size += object->size;
    engine->statistics.pinned_objects += object->pinned;
    if (!object->scattered) {
        if (object->size > 0 && claimed->error == 0)
            claimed->error = claim_piece(claimed, object, kv_object_location(object), object->frame);
        object->frame = 0;
        return;
    }
    units = kv_index_side_at(engine->index, (uint32_t)kv_object_location(object));
    for (uint64_t i = 1; i <= units[0]; i++) {
        uint32_t slab_class = (uint32_t)(units[i] >> KV_RECOVERY_CLASS_SHIFT);

        units[i] &= (1ull << KV_RECOVERY_CLASS_SHIFT) - 1;
        if (claimed->error == 0)
            claimed->error = claim_piece(claimed, object, units[i], slab_class);
    }
}

/* All extents belong to somebody now; the slab file must hold them. */
static int claim_all(kv_recovery *recovery)
{
    kv_engine *engine = recovery->engine;
    claims claimed = {.recovery = recovery};
    uint64_t cursor = 0;
    uint64_t needed;

    while (kv_index_scan(engine->index, &cursor, claim, &claimed))
        continue;
    if (claimed.error < 0)
        return claimed.error;
    kv_slab_claimed(engine->space.slabs);
    needed = (uint64_t)kv_slab_high_mark(engine->space.slabs) * engine->space.slab_size;
    if (needed > 0 && KV_SLABS_START + needed > engine->space.reserved_size)
        return kv_recovery_refuse(recovery, KV_FILE_SLABS, engine->space.reserved_size, "truncated");
    engine->statistics.recovered_objects = kv_index_count(engine->index);
    return 0;
}

/* Re-journal what the dropped keys hold now, so that the next recovery need not judge them again. */
static int settle_dropped(kv_recovery *recovery)
{
    kv_engine *engine = recovery->engine;
    kv_record *record = &recovery->record;
    kv_list *link;
    int result = 0;

    while ((link = kv_list_pop(&recovery->dropped)) != NULL) {
        kv_dropped *dropped = KV_CONTAINER(link, kv_dropped, link);
        uint64_t hash = kv_index_hash(engine->index, dropped->key, dropped->key_size);
        kv_object *object = kv_index_find(engine->index, hash, dropped->key, dropped->key_size);

        if (object) {
            kv_record_of(engine, object, record);
            record->sequence_of = 0;
        } else {
            *record = (kv_record){.kind = KV_RECORD_DELETE,
                                  .key_size = dropped->key_size,
                                  .key = dropped->key};
        }
        if (result == 0 && !kv_journal_has_room(engine, KV_RECORD_SIZE_MAX))
            result = kv_journal_settle(engine, false);
        if (result == 0) {
            uint64_t sequence;

            pthread_mutex_lock(&engine->lock);
            sequence = kv_journal_append(engine, record);
            pthread_mutex_unlock(&engine->lock);
            if (object) /* moves of it name this record from now on */
                kv_object_set_sequence(object, sequence);
        }
        free(dropped);
    }
    return result;
}

/* Begin a new run: what was recovered is flushed before anything new is promised. */
static int begin_run(kv_recovery *recovery)
{
    kv_engine *engine = recovery->engine;
    kv_record record = {.kind = KV_RECORD_OPEN,
                        .expiry_ms = engine->incarnation};
    int result;

    pthread_mutex_lock(&engine->lock);
    kv_journal_append(engine, &record);
    pthread_mutex_unlock(&engine->lock);
    result = settle_dropped(recovery);
    if (result == 0)
        result = kv_journal_settle(engine, true);
    if (result == 0)
        result = kv_superblock_write(engine, false);
    if (result < 0)
        kv_engine_explain(recovery->message, "the store cannot be written: %s", strerror(-result));
    return result;
}

/* The space as asked for at this open: it may grow; what is in use beyond a smaller one stays. */
static int open_space(kv_engine *engine)
{
    const kv_engine_options *options = &engine->options;
    uint64_t slab_size = engine->space.slab_size;
    int64_t file_size = engine->device->operations->file_size(engine->device, KV_FILE_SLABS);
    uint64_t asked = options->capacity ? options->capacity : engine->space_size;
    uint64_t space = (asked + slab_size - 1) / slab_size * slab_size;
    uint64_t held = file_size > (int64_t)KV_SLABS_START ? (uint64_t)file_size - KV_SLABS_START : 0;
    int result;

    if (space == 0)
        space = options->space_max / slab_size * slab_size + held;
    else
        engine->space_size = space;
    result = kv_space_open(engine, slab_size, space > held ? space : held);
    if (result == 0 && space < held)
        kv_slab_limit(engine->space.slabs, (uint32_t)(space / slab_size));
    return result;
}

static int recover(kv_recovery *recovery)
{
    kv_engine *engine = recovery->engine;
    kv_header header;
    kv_file file = KV_FILE_COUNT;
    int result = kv_recovery_read_header(recovery, KV_FILE_SLABS, KV_HEADER_SLABS, &header);

    if (result == -ENODATA)
        return kv_recovery_refuse(recovery, KV_FILE_SLABS, 0, "its header is damaged");
    if (result == 0)
        result = choose_checkpoint(recovery, &file, &header);
    if (result == 0 && header.fields[KV_CHECKPOINT_SEQUENCE] >> KV_OBJECT_SEQUENCE_BITS != 0)
        return kv_recovery_refuse(recovery, file, 0, "its sequence is impossible");
    if (result == 0)
        result = load_checkpoint(recovery, file, &header);
    if (result < 0)
        return result;
    if (header.fields[KV_CHECKPOINT_VERSION] > engine->version_max)
        engine->version_max = header.fields[KV_CHECKPOINT_VERSION];
    engine->statistics.checkpoint_sequence = header.fields[KV_CHECKPOINT_SEQUENCE];
    engine->checkpoint_size = header.fields[KV_CHECKPOINT_END];
    result = kv_recovery_replay(recovery, &header);
    return result < 0 ? result : claim_all(recovery);
}

static int recovery_prepare(kv_engine *engine, char *message)
{
    int result = kv_superblock_read(engine, message);

    if (result == 0 && engine->options.open_mode != KV_OPEN_NORMAL) {
        kv_engine_explain(message, "there is no store here");
        return -ENOENT;
    }
    if (result == 0)
        result = kv_superblock_format(engine, message);
    if (result < 0)
        return result;
    result = open_space(engine);
    if (result < 0)
        kv_engine_explain(message, "the space of the store cannot be managed: %s", strerror(-result));
    return result;
}

int kv_recovery_run(kv_engine *engine, char *message)
{
    kv_recovery recovery = {.engine = engine, .message = message};
    int result = recovery_prepare(engine, message);

    if (result < 0)
        return result;
    kv_list_init(&recovery.dropped);
    if (posix_memalign((void **)&recovery.buffer, KV_PAGE_SIZE, KV_RECOVERY_BUFFER_SIZE) != 0)
        return -ENOMEM;
    result = recover(&recovery);
    if (result == 0 && !engine->read_only)
        result = begin_run(&recovery);
    engine->journal.flushed = engine->journal.durable; /* read-only: nobody will flush it */
    while (!kv_list_empty(&recovery.dropped))
        free(KV_CONTAINER(kv_list_pop(&recovery.dropped), kv_dropped, link));
    kv_recovery_free_tail(&recovery);
    free(recovery.buffer);
    return result;
}
