/* Replaying the journal: where does it end, and is what lies behind the end a torn tail or damage?
 *
 * Groups are written one at a time, in order. So a group that cannot be read is the torn tail of a
 * crash, unless the superblock or a later group says that the missing sequence was flushed, or a
 * later group of the same run was written in the incarnation of the system that still runs (then no
 * power was lost and every group before it was complete). That is damage, and refused. A group left
 * over from a life whose tail was cut proves nothing: what it says was flushed came before the cut.
 *
 * A group of another run continues the journal only when it begins with an OPEN record: anything
 * else is left over from a life whose tail was cut. */

#include "engine/recovery.h"

#include <assert.h>
#include <errno.h>

typedef struct journal_end {
    uint64_t offset;
    uint64_t size; /* of the file */
    bool found;    /* the file is of this generation */
    uint64_t expected; /* as kv_recovery knows them where the file ends */
    uint64_t run;
    uint64_t incarnation;
} journal_end;

/* Called for each group in order; records lie behind the header in the buffer. */
typedef int group_visit(kv_recovery *recovery, const kv_group *group, const uint8_t *records);

static bool begins_run(const uint8_t *records, const kv_group *group)
{
    return group->count > 0 && records[0] == KV_RECORD_OPEN;
}

static bool continues(const kv_recovery *recovery, const kv_group *group, const uint8_t *records,
                      uint64_t generation)
{
    return group->generation == generation && group->store == recovery->engine->store_id &&
           group->count > 0 && group->first == recovery->expected &&
           (group->run == recovery->run || begins_run(records, group));
}

/* Whether this group, found behind the end, shows that what is missing was complete once. */
static bool proves_damage(const kv_recovery *recovery, const kv_group *group, uint64_t generation)
{

    if (group->generation != generation || group->store != recovery->engine->store_id ||
        group->first < recovery->expected)
        return false;
    return group->flushed >= recovery->expected ||
           (group->run == recovery->run &&
            recovery->incarnation == recovery->engine->incarnation);
}

/* Look behind the end of the journal for such a group. 1: there is one. `cut_size`: what can be recognised of a torn tail. */
static int search_damage(kv_recovery *recovery, uint64_t generation, uint64_t begin, uint64_t size)
{
    kv_file file = kv_journal_file(generation);
    uint64_t *cut_size = &recovery->engine->statistics.recovery_cut_size;
    uint64_t offset = begin;

    while (offset < size) {
        uint64_t left = size - offset;
        uint32_t part = left < KV_RECOVERY_BUFFER_SIZE ? (uint32_t)left : KV_RECOVERY_BUFFER_SIZE;
        uint32_t step = left <= KV_RECOVERY_BUFFER_SIZE ? part : KV_RECOVERY_BUFFER_SIZE / 2;
        int result = kv_recovery_read(recovery, file, offset, part);

        if (result < 0)
            return result;
        for (uint32_t at = 0; at < step; at += KV_PAGE_SIZE) {
            kv_group group = {0};
            int opened = kv_group_open(recovery->buffer + at, part - at, &group);

            if (opened == 0 && proves_damage(recovery, &group, generation))
                return 1;
            if (group.run == recovery->run && group.generation == generation)
                *cut_size += kv_group_padded_size(group.size);
            else if (offset + at == begin && (opened == -EBADMSG || opened == -EAGAIN))
                *cut_size += KV_PAGE_SIZE;
        }
        offset += step;
    }
    return 0;
}

static void group_note(kv_recovery *recovery, const kv_group *group, const uint8_t *records)
{
    if (group->run != recovery->run) {
        kv_record_decode(records, group->size, &recovery->record);
        recovery->run = group->run;
        recovery->incarnation = recovery->record.expiry_ms;
    }
    recovery->expected = group->first + group->count;
}

/* Walk the groups of one file to where they end. */
static int walk(kv_recovery *recovery, uint64_t generation, group_visit *visit, journal_end *end)
{
    kv_file file = kv_journal_file(generation);
    uint64_t buffered = 0; /* offset of the buffer's first byte in the file */
    uint32_t filled = 0;

    end->offset = KV_PAGE_SIZE;
    while (end->offset < end->size) {
        uint64_t skip = end->offset - buffered;
        const uint8_t *source = recovery->buffer + skip;
        kv_group group;
        int result = filled > skip ? kv_group_open(source, filled - skip, &group) : -EAGAIN;

        if (result == -EAGAIN && (filled == 0 || buffered + filled < end->size || skip > 0)) {
            uint64_t left = end->size - end->offset;

            if (buffered == end->offset && filled == (left < KV_RECOVERY_BUFFER_SIZE ? left : KV_RECOVERY_BUFFER_SIZE))
                return 0;
            filled = left < KV_RECOVERY_BUFFER_SIZE ? (uint32_t)left : KV_RECOVERY_BUFFER_SIZE;
            buffered = end->offset;
            result = kv_recovery_read(recovery, file, buffered, filled);
            if (result < 0)
                return result;
            continue;
        }
        if (result < 0 || !continues(recovery, &group, source + KV_GROUP_HEADER_SIZE, generation))
            return 0;
        group_note(recovery, &group, source + KV_GROUP_HEADER_SIZE);
        result = visit(recovery, &group, source + KV_GROUP_HEADER_SIZE);
        if (result < 0)
            return result;
        end->offset += kv_group_padded_size(group.size);
    }
    return 0;
}

static int visit_flushed(kv_recovery *recovery, const kv_group *group, const uint8_t *records)
{
    (void)records;
    if (group->flushed > recovery->flushed)
        recovery->flushed = group->flushed;
    return 0;
}

/* Records that a power cut may have robbed of their values are set aside, and with them, to keep the
 * order, all that follow. */
static int apply_or_set_aside(kv_recovery *recovery, uint64_t sequence)
{
    bool doubtful = sequence > recovery->flushed &&
                    recovery->incarnation != recovery->engine->incarnation;

    if (!doubtful && recovery->tail.count == 0)
        return kv_recovery_apply(recovery, &recovery->record, sequence);
    return kv_recovery_set_aside(recovery, sequence, doubtful);
}

static int visit_apply(kv_recovery *recovery, const kv_group *group, const uint8_t *records)
{
    uint32_t position = 0;

    for (uint32_t i = 0; i < group->count; i++) {
        int64_t used = kv_record_decode(records + position, group->size - position, &recovery->record);
        int result;

        if (used < 0)
            return kv_recovery_refuse(recovery, kv_journal_file(group->generation), 0,
                                      "an illegal record in a group with a correct checksum");
        result = apply_or_set_aside(recovery, group->first + i);
        if (result < 0)
            return result;
        position += (uint32_t)used;
    }
    return 0;
}

/* A journal file: of this generation, or of another (then it has nothing to say here). */
static int journal_find(kv_recovery *recovery, uint64_t generation, journal_end *end)
{
    kv_file file = kv_journal_file(generation);
    kv_header header;
    int64_t size = recovery->engine->device->operations->file_size(recovery->engine->device, file);
    int result;

    if (size < 0)
        return (int)size;
    if (size % (int64_t)recovery->engine->options.journal_step != 0 || size == 0)
        return kv_recovery_refuse(recovery, file, (uint64_t)size, "truncated");
    result = kv_recovery_read_header(recovery, file, KV_HEADER_JOURNAL, &header);
    if (result < 0 && result != -ENODATA)
        return result;
    end->size = (uint64_t)size;
    end->found = result == 0 && header.fields[KV_JOURNAL_GENERATION] == generation;
    return 0;
}

/* Walk the current generation and, where a checkpoint had begun, the next. The ends of both are left in `ends`. */
static int walk_both(kv_recovery *recovery, uint64_t generation, group_visit *visit, journal_end ends[2])
{
    int result = walk(recovery, generation, visit, &ends[0]);

    ends[0].expected = recovery->expected;
    ends[0].run = recovery->run;
    ends[0].incarnation = recovery->incarnation;
    return result < 0 || !ends[1].found ? result : walk(recovery, generation + 1, visit, &ends[1]);
}

/* A file that was not found is searched too: its header may be what is damaged. */
static int check_end(kv_recovery *recovery, uint64_t generation, const journal_end ends[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        kv_file file = kv_journal_file(generation + i);
        uint64_t offset = ends[i].found ? ends[i].offset : KV_PAGE_SIZE;
        int result = search_damage(recovery, generation + i, offset, ends[i].size);

        if (result < 0)
            return result;
        if (result > 0)
            return kv_recovery_refuse(recovery, file, ends[i].found ? offset : 0,
                                      "corruption (later groups show that this is no torn tail)");
    }
    if (recovery->expected <= recovery->engine->superblock_sequence) {
        uint32_t last = ends[1].found && ends[1].offset > KV_PAGE_SIZE;

        return kv_recovery_refuse(recovery, kv_journal_file(generation + last), ends[last].offset,
                                  "corruption (the journal ends before what the superblock says was flushed)");
    }
    return 0;
}

static void journal_continue(kv_recovery *recovery, uint64_t generation, const journal_end ends[2])
{
    kv_journal *journal = &recovery->engine->journal;
    bool second = ends[1].found && ends[1].offset > KV_PAGE_SIZE;

    recovery->engine->checkpoint_generation = generation;
    journal->switch_sequence = ends[0].expected;
    journal->switch_run = ends[0].run;
    journal->switch_incarnation = ends[0].incarnation;
    journal->generation = generation + second;
    journal->offset = ends[second].offset;
    journal->reserved_size = ends[second].size;
    journal->next = recovery->expected;
    journal->durable = recovery->expected - 1;
    journal->flushed = recovery->flushed < journal->durable ? recovery->flushed : journal->durable;
    /* What a killed process wrote is there to be read, but not yet safe to build upon. */
    journal->files_unflushed = (1u << KV_FILE_COUNT) - 1;
}

/* Stand at the checkpoint: the run that wrote it also wrote the first groups behind it. */
static void stand_at(kv_recovery *recovery, const kv_header *checkpoint)
{
    recovery->expected = checkpoint->fields[KV_CHECKPOINT_SEQUENCE] + 1;
    recovery->run = checkpoint->fields[KV_CHECKPOINT_RUN];
    recovery->incarnation = checkpoint->fields[KV_CHECKPOINT_INCARNATION];
}

int kv_recovery_replay(kv_recovery *recovery, const kv_header *checkpoint)
{
    uint64_t generation = checkpoint->fields[KV_CHECKPOINT_GENERATION];
    journal_end ends[2] = {{0}};
    int result = journal_find(recovery, generation, &ends[0]);

    if (result == 0)
        result = journal_find(recovery, generation + 1, &ends[1]);
    if (result == 0 && !ends[0].found)
        result = kv_recovery_refuse(recovery, kv_journal_file(generation), 0,
                                    "its header is damaged, or not of this checkpoint");
    recovery->flushed = checkpoint->fields[KV_CHECKPOINT_SEQUENCE];
    stand_at(recovery, checkpoint);
    if (result == 0)
        result = walk_both(recovery, generation, visit_flushed, ends);
    if (result == 0)
        result = check_end(recovery, generation, ends);
    if (result < 0)
        return result;
    journal_continue(recovery, generation, ends);
    stand_at(recovery, checkpoint);
    result = walk_both(recovery, generation, visit_apply, ends);
    assert(result < 0 || recovery->expected == recovery->engine->journal.next);
    return result < 0 ? result : kv_recovery_judge_tail(recovery);
}
