/* The metadata journal's writer: group commit.
 *
 *   append ... append | kick: seal and write the group | append ... (next group fills meanwhile)
 *                       written: durable = its last sequence; whoever waits for it goes on
 *                       flush (when somebody needs it): flushed = what was durable at its submission
 *
 * One group is written at a time and one flush runs at a time; each serves everybody who waits then. A
 * failed write or flush takes the target offline: it is never retried as if nothing had happened. */

#include "engine/engine_state.h"
#include "engine/startup.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define JOURNAL_GROUPS_HELD_MAX 16u /* a flush waits for values on their way, but not for more groups */
#define JOURNAL_RETRY_MS 250u /* where a checkpoint found no room either, the next one is so much later */
#define JOURNAL_RECORDS_SIZE_MAX (KV_GROUP_SIZE_MAX - KV_GROUP_HEADER_SIZE - KV_PAGE_SIZE)

static void write_done(kv_io *io);
static void flush_done(kv_io *io);

kv_file kv_journal_file(uint64_t generation)
{
    return generation & 1 ? KV_FILE_JOURNAL_1 : KV_FILE_JOURNAL_0;
}

int kv_journal_open(kv_engine *engine)
{
    kv_journal *journal = &engine->journal;

    for (int i = 0; i < 2; i++)
        if (posix_memalign((void **)&journal->buffers[i], KV_PAGE_SIZE, KV_GROUP_SIZE_MAX) != 0) {
            kv_journal_close(engine);
            return -ENOMEM;
        }
    journal->filling = journal->buffers[0];
    kv_list_init(&journal->waiters);
    return 0;
}

void kv_journal_close(kv_engine *engine)
{
    free(engine->journal.buffers[0]);
    free(engine->journal.buffers[1]);
    engine->journal.buffers[0] = NULL;
    engine->journal.buffers[1] = NULL;
}

bool kv_journal_has_room(const kv_engine *engine, size_t size)
{
    return engine->journal.fill_size + size <= JOURNAL_RECORDS_SIZE_MAX;
}

uint64_t kv_journal_append(kv_engine *engine, const kv_record *record)
{
    kv_journal *journal = &engine->journal;
    size_t size = kv_record_size(record);

    if (engine->offline || !kv_journal_has_room(engine, size))
        return 0;
    kv_record_encode(record, journal->filling + KV_GROUP_HEADER_SIZE + journal->fill_size);
    journal->fill_size += (uint32_t)size;
    journal->fill_count++;
    engine->statistics.journal_records++;
    return journal->next++;
}

int kv_journal_write_header(kv_engine *engine, uint64_t generation)
{
    kv_file file = kv_journal_file(generation);
    kv_header header = {.kind = KV_HEADER_JOURNAL, .fields = {generation}};
    int result = engine->device->operations->file_reserve(engine->device, file,
                                                          engine->options.journal_step);

    return result < 0 ? result : kv_engine_write_header(engine, file, 0, &header);
}

/* The records appended from here on go to the other file. */
static void journal_switch(kv_engine *engine)
{
    kv_journal *journal = &engine->journal;
    int64_t size;

    journal->generation++;
    journal->offset = KV_PAGE_SIZE;
    journal->switch_sequence = journal->next - journal->fill_count;
    journal->switch_run = journal->run;
    journal->switch_incarnation = engine->incarnation;
    journal->switch_wanted = false;
    journal->full = false;
    size = engine->device->operations->file_size(engine->device, kv_journal_file(journal->generation));
    journal->reserved_size = size > 0 ? (uint64_t)size : 0;
}

static int journal_grow(kv_engine *engine, uint64_t size)
{
    kv_journal *journal = &engine->journal;
    uint64_t step = engine->options.journal_step;
    uint64_t wanted = (size + step - 1) / step * step;
    int result;

    if (size <= journal->reserved_size)
        return 0;
    result = engine->device->operations->file_reserve(engine->device,
                                                      kv_journal_file(journal->generation), wanted);
    if (result == 0)
        journal->reserved_size = wanted;
    return result;
}

int kv_journal_admit(kv_engine *engine, uint64_t margin)
{
    kv_journal *journal = &engine->journal;
    uint64_t wanted = journal->offset + KV_PAGE_SIZE + journal->fill_size + margin;
    int result;

    if (journal->next >= KV_SEQUENCE_MAX)
        return -ENOSPC;
    if (wanted <= journal->reserved_size)
        return 0;
    if (journal->vain_ms != 0 && kv_engine_now(engine) - journal->vain_ms < JOURNAL_RETRY_MS)
        return -ENOSPC;
    result = journal_grow(engine, wanted);
    journal->full = result == -ENOSPC;
    if (!journal->full)
        return 0; /* any other failure is the group's */
    engine->options.maintain(engine->options.executor);
    return -EAGAIN;
}

void kv_journal_checkpointed(kv_engine *engine, bool vain)
{
    engine->journal.vain_ms = vain && engine->journal.full ? kv_engine_now(engine) : 0;
    engine->journal.full = false;
    kv_operation_wake_all(&engine->space_waiters);
}

static void group_write(kv_engine *engine)
{
    kv_journal *journal = &engine->journal;
    kv_group group = {
        .size = journal->fill_size,
        .count = journal->fill_count,
        .first = journal->next - journal->fill_count,
        .flushed = journal->flushed,
        .run = journal->run,
        .generation = journal->generation,
        .store = engine->store_id,
    };
    uint8_t *buffer = journal->filling;
    kv_io *io = &journal->write_io;
    size_t size = kv_group_seal(&group, buffer);
    int result = journal_grow(engine, journal->offset + size);

    if (result < 0) {
        kv_engine_fail(engine, -result);
        return;
    }
    *io = (kv_io){.kind = KV_IO_WRITE,
                  .file = kv_journal_file(journal->generation),
                  .size = (uint32_t)size,
                  .offset = journal->offset,
                  .memory = buffer,
                  .done = write_done,
                  .context = engine};
    journal->writing = true;
    journal->writing_last = journal->next - 1;
    journal->offset += size;
    journal->filling = buffer == journal->buffers[0] ? journal->buffers[1] : journal->buffers[0];
    journal->fill_size = 0;
    journal->fill_count = 0;
    journal->write_generation = kv_io_watch_begin(&engine->io_watch);
    engine->statistics.journal_groups++;
    engine->statistics.device_writes++;
    engine->statistics.device_write_bytes += size;
    engine->device->operations->submit(engine->device, &io, 1);
}

static void flush_begin(kv_engine *engine)
{
    kv_journal *journal = &engine->journal;
    kv_io *io = &journal->flush_io;

    *io = (kv_io){.kind = KV_IO_FLUSH,
                  .files = journal->files_unflushed | 1u << KV_FILE_SLABS,
                  .done = flush_done,
                  .context = engine};
    journal->flushing = true;
    journal->groups_held = 0;
    journal->flushing_last = journal->durable;
    journal->files_unflushed = 0;
    journal->bytes_unflushed = 0;
    journal->flush_generation = kv_io_watch_begin(&engine->io_watch);
    engine->statistics.device_flushes++;
    engine->device->operations->submit(engine->device, &io, 1);
}

/* Whether anybody waits for a flush that would help now. */
static bool flush_needed(const kv_engine *engine)
{
    const kv_journal *journal = &engine->journal;

    if (journal->flushed >= journal->durable)
        return false;
    if (engine->sets_coming > 0 && journal->groups_held < JOURNAL_GROUPS_HELD_MAX)
        return false; /* values about to be recorded share the flush */
    return journal->flushed < journal->flush_wanted || engine->options.durability == KV_DURABILITY_SYNC ||
           journal->bytes_unflushed >= KV_FLUSH_BYTES_MAX;
}

void kv_journal_kick(kv_engine *engine)
{
    kv_journal *journal = &engine->journal;

    if (engine->offline)
        return;
    if (!journal->writing && journal->switch_wanted)
        journal_switch(engine);
    if (!journal->writing && journal->fill_count > 0)
        group_write(engine);
    if (!journal->flushing && flush_needed(engine))
        flush_begin(engine);
}

void kv_journal_want_flush(kv_engine *engine)
{
    engine->journal.flush_wanted = engine->journal.next - 1;
    kv_journal_kick(engine);
}

static void waiter_wake(kv_operation *operation)
{
    if (operation->kind == KV_OP_SET || operation->kind == KV_OP_MOVE)
        kv_set_progress(operation);
    else
        kv_operation_wake(operation);
}

/* Operations whose sequence is reached go on; some of them will wait again. */
static void journal_wake(kv_engine *engine)
{
    kv_list waiters;
    kv_list *link;

    kv_list_init(&waiters);
    while ((link = kv_list_pop(&engine->journal.waiters)) != NULL)
        kv_list_append(&waiters, link);
    while ((link = kv_list_pop(&waiters)) != NULL) {
        kv_operation *operation = KV_CONTAINER(link, kv_operation, wait_journal);
        uint64_t reached = operation->waits_visible ? kv_engine_visible(engine)
                                                    : engine->journal.flushed;

        if (reached >= operation->wait_sequence || engine->offline)
            waiter_wake(operation);
        else
            kv_list_append(&engine->journal.waiters, link);
    }
}

static void write_done(kv_io *io)
{
    kv_engine *engine = io->context;
    kv_journal *journal = &engine->journal;

    pthread_mutex_lock(&engine->lock);
    assert(journal->writing);
    kv_io_watch_end(&engine->io_watch, journal->write_generation);
    journal->writing = false;
    journal->groups_held++;
    journal->files_unflushed |= 1u << io->file; /* not before: a flush under way does not cover it */
    if (io->result < 0)
        kv_engine_fail(engine, (int)-io->result);
    else
        journal->durable = journal->writing_last;
    journal_wake(engine);
    kv_journal_kick(engine);
    if (kv_checkpoint_due(engine))
        engine->options.maintain(engine->options.executor);
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->lock);
}

static void flush_done(kv_io *io)
{
    kv_engine *engine = io->context;
    kv_journal *journal = &engine->journal;

    pthread_mutex_lock(&engine->lock);
    assert(journal->flushing);
    kv_io_watch_end(&engine->io_watch, journal->flush_generation);
    journal->flushing = false;
    if (io->result < 0) {
        kv_engine_fail(engine, (int)-io->result);
    } else {
        journal->flushed = journal->flushing_last;
        kv_space_release(engine);
    }
    journal_wake(engine);
    kv_journal_kick(engine);
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->lock);
}

/* Whether everything appended is written, and flushed if asked; sets off what is missing. Locked. */
static bool settled(kv_engine *engine, bool flush)
{
    kv_journal *journal = &engine->journal;

    if (engine->offline)
        return !journal->writing && !journal->flushing;
    if (flush)
        journal->flush_wanted = journal->next - 1;
    kv_journal_kick(engine);
    if (journal->writing || journal->fill_count > 0)
        return false;
    return !flush || journal->flushed + 1 == journal->next;
}

int kv_journal_settle(kv_engine *engine, bool flush)
{
    int result = 0;

    pthread_mutex_lock(&engine->lock);
    while (result == 0 && !settled(engine, flush))
        result = kv_engine_sleep(engine);
    if (result == 0)
        result = -engine->offline;
    pthread_mutex_unlock(&engine->lock);
    return result;
}
