#include "sim_client.h"

static void a_reservation_is_zero_filled_and_never_shrinks(void)
{
    client made = client_of_seed(1);
    uint64_t size;

    assert(reserve(&made, FILE_USED, 3 * PAGE) == 0);
    assert(reserve(&made, FILE_USED, PAGE) == 0);

    assert(made.device->operations->file_size(made.device, FILE_USED) == 3 * PAGE);
    for (uint64_t i = 0; i < 3 * PAGE; i++)
        assert(kv_sim_bytes(made.sim, FILE_USED, &size)[i] == 0);
    assert(size == 3 * PAGE);
    kv_sim_close(made.sim);
}

static void growth_keeps_bytes(void)
{
    client made = client_with_pages(1, 1);

    assert(write_pages(&made, FILE_USED, 0, 1, 7) == PAGE);
    assert(reserve(&made, FILE_USED, 200 * PAGE) == 0);

    assert(tag_at(made.sim, FILE_USED, 0) == 7);
    assert(tag_at(made.sim, FILE_USED, 199 * PAGE) == 0);
    kv_sim_close(made.sim);
}

static void a_full_device_refuses_and_stays_unchanged(void)
{
    client made = client_with_pages(1, 1);

    assert(reserve(&made, KV_FILE_JOURNAL_0, SPACE) == -ENOSPC);
    assert(reserve(&made, FILE_USED, SPACE + 1) == -ENOSPC);
    assert(made.device->operations->file_size(made.device, FILE_USED) == PAGE);
    assert(reserve(&made, KV_FILE_JOURNAL_0, SPACE - PAGE) == 0);
    assert(reserve(&made, FILE_USED, 2 * PAGE) == -ENOSPC);
    kv_sim_set_space(made.sim, SPACE + PAGE);
    assert(reserve(&made, FILE_USED, 2 * PAGE) == 0);
    kv_sim_set_space(made.sim, PAGE);
    assert(reserve(&made, FILE_USED, 2 * PAGE) == 0);
    assert(reserve(&made, FILE_USED, 3 * PAGE) == -ENOSPC);
    kv_sim_close(made.sim);
}

static void transfers_beyond_the_size_are_refused(void)
{
    client made = client_with_pages(1, 2);

    assert(write_pages(&made, FILE_USED, 1, 2, 7) == -EFBIG);
    assert(tag_at(made.sim, FILE_USED, PAGE) == 0);
    assert(end(&made, submit_read(&made, FILE_USED, 1, 2)) == -ENODATA);
    assert(end(&made, submit_read(&made, KV_FILE_JOURNAL_0, 0, 1)) == -ENODATA);
    assert(write_pages(&made, KV_FILE_JOURNAL_0, UINT64_MAX / PAGE, 1, 7) == -EFBIG);
    kv_sim_close(made.sim);
}

static void a_write_is_read_once_it_completed(void)
{
    client made = client_with_pages(1, 2);
    operation *write = submit_write(&made, FILE_USED, 1, 1, 7);
    operation *read;

    assert(tag_at(made.sim, FILE_USED, PAGE) == 0 && write->finished == 0);
    assert(kv_sim_pump(made.sim, 10) == 1);
    assert(write->finished == 1 && write->io.result == PAGE);
    read = submit_read(&made, FILE_USED, 0, 2);
    wait_for(&made, read);
    assert(read->io.result == 2 * PAGE);
    assert(read->memory[0] == 0 && read->memory[PAGE] == 7);
    operation_free(write);
    operation_free(read);
    kv_sim_close(made.sim);
}

static void completions_keep_their_order(void)
{
    client made = client_with_pages(1, 4);
    operation *writes[4];

    for (uint32_t i = 0; i < 4; i++)
        writes[i] = submit_write(&made, FILE_USED, i, 1, 7);
    for (uint32_t i = 0; i < 4; i++) {
        assert(kv_sim_in_flight(made.sim) == 4 - i);
        assert(kv_sim_pump(made.sim, 1) == 1);
        assert(writes[i]->finished == 1);
        operation_free(writes[i]);
    }
    assert(kv_sim_pump(made.sim, 1) == 0);
    kv_sim_close(made.sim);
}

static void reordered_completions_come_in_every_order(void)
{
    int first[4] = {0};

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_open(&(kv_sim_options){
            .seed = seed, .space_max = SPACE, .reorder_completions = true});
        operation *writes[4];

        assert(reserve(&made, FILE_USED, 4 * PAGE) == 0);
        for (uint32_t i = 0; i < 4; i++)
            writes[i] = submit_write(&made, FILE_USED, i, 1, 7);
        kv_sim_pump(made.sim, 1);
        for (uint32_t i = 0; i < 4; i++) {
            first[i] += writes[i]->finished;
            assert(end(&made, writes[i]) == PAGE);
        }
        kv_sim_close(made.sim);
    }
    for (uint32_t i = 0; i < 4; i++)
        assert(first[i] > SEEDS / 8);
}

static client chain_client;

static void chain_done(kv_io *io)
{
    kv_io *again = io;

    operation_done(io);
    if (io->offset == 3 * PAGE)
        return;
    io->offset += PAGE;
    chain_client.device->operations->submit(chain_client.device, &again, 1);
}

static void done_may_submit_its_io_again(void)
{
    operation *write = transfer(KV_IO_WRITE, FILE_USED, 0, 1);

    chain_client = client_with_pages(1, 4);
    fill(write->memory, PAGE, 7);
    write->io.done = chain_done;
    submit(&chain_client, write);
    assert(kv_sim_pump(chain_client.sim, 100) == 4);
    assert(write->finished == 4 && tag_at(chain_client.sim, FILE_USED, 3 * PAGE) == 7);
    operation_free(write);
    kv_sim_close(chain_client.sim);
}

static void only_a_power_cut_changes_the_incarnation(void)
{
    client made = client_of_seed(1);
    uint64_t before = made.device->operations->incarnation(made.device);

    kv_sim_kill(made.sim);
    client_next_life(&made);
    assert(made.device->operations->incarnation(made.device) == before);
    made.device->operations->close(made.device);
    client_next_life(&made);
    assert(made.device->operations->incarnation(made.device) == before);
    kv_sim_power_cut(made.sim);
    client_next_life(&made);
    assert(made.device->operations->incarnation(made.device) != before);
    kv_sim_close(made.sim);
}

static void a_life_that_goes_on_completes_everything_at_close(void)
{
    client made = client_with_pages(1, 2);
    operation *one = submit_write(&made, FILE_USED, 0, 1, 1);
    operation *other = submit_write(&made, FILE_USED, 1, 1, 2);

    made.device->operations->close(made.device);
    assert(one->finished == 1 && other->finished == 1);
    assert(tag_at(made.sim, FILE_USED, PAGE) == 2);
    operation_free(one);
    operation_free(other);
    kv_sim_close(made.sim);
}

static void a_life_that_ended_runs_and_takes_nothing(void)
{
    client made = client_with_pages(1, 2);
    client dead = made;
    operation *before = submit_write(&made, FILE_USED, 0, 1, 1);
    operation *after;

    kv_sim_kill(made.sim);
    client_next_life(&made);
    after = submit_write(&dead, FILE_USED, 1, 1, 1);
    assert(kv_sim_in_flight(made.sim) == 0 && kv_sim_pump(made.sim, 10) == 0);
    wait_for(&dead, before);
    wait_for(&dead, after);
    assert(before->io.result == -ECANCELED && after->io.result == -ECANCELED);
    assert(reserve(&dead, FILE_USED, 3 * PAGE) == -ECANCELED);
    dead.device->operations->close(dead.device);
    assert(before->finished == 0 && after->finished == 0);
    assert(tag_at(made.sim, FILE_USED, PAGE) == 0);
    operation_free(before);
    operation_free(after);
    kv_sim_close(made.sim);
}

static void a_failed_operation_answers_its_error(void)
{
    client made = client_with_pages(1, 2);

    kv_sim_fail(made.sim, KV_IO_WRITE, FILE_USED, -EIO, 2);
    kv_sim_fail(made.sim, KV_IO_READ, FILE_USED, -EIO, 1);
    kv_sim_fail(made.sim, KV_IO_FLUSH, FILE_USED, -ENOSPC, 1);

    assert(end(&made, submit_read(&made, FILE_USED, 0, 1)) == -EIO);
    assert(end(&made, submit_read(&made, FILE_USED, 0, 1)) == PAGE);
    assert(write_pages(&made, FILE_USED, 0, 1, 1) == -EIO);
    assert(write_pages(&made, FILE_USED, 0, 1, 1) == -EIO);
    assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
    assert(flush_file(&made, KV_FILE_JOURNAL_0) == 0);
    assert(flush_file(&made, FILE_USED) == -ENOSPC);
    assert(flush_file(&made, FILE_USED) == 0);
    kv_sim_close(made.sim);
}

static void a_flip_changes_one_stored_byte(void)
{
    client made = client_with_pages(1, 2);
    uint64_t size;

    assert(write_pages(&made, FILE_USED, 0, 1, 0) == PAGE);
    assert(flush_file(&made, FILE_USED) == 0);
    kv_sim_flip(made.sim, FILE_USED, 5, 0x81);
    kv_sim_power_cut(made.sim);

    assert(kv_sim_bytes(made.sim, FILE_USED, &size)[5] == 0x81);
    kv_sim_flip(made.sim, FILE_USED, 5, 0x81);
    assert(sectors_with(made.sim, FILE_USED, 0, 16, 0) == 16);
    kv_sim_close(made.sim);
}

static void statistics_count_what_was_submitted(void)
{
    client made = client_with_pages(1, 4);
    kv_sim_statistics statistics;

    write_pages(&made, FILE_USED, 0, 3, 1);
    write_pages(&made, FILE_USED, 0, 1, 1);
    end(&made, submit_read(&made, FILE_USED, 0, 2));
    flush_file(&made, FILE_USED);
    kv_sim_statistics_read(made.sim, &statistics);

    assert(statistics.writes == 2 && statistics.write_size == 4 * PAGE);
    assert(statistics.reads == 1 && statistics.read_size == 2 * PAGE);
    assert(statistics.flushes == 1);
    kv_sim_close(made.sim);
}

static void a_cut_strikes_when_its_write_is_submitted(void)
{
    client made = client_with_pages(1, 4);
    operation *writes[4];
    operation *first;

    assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
    kv_sim_cut_at(made.sim, 3);
    first = submit_write(&made, FILE_USED, 0, 1, 2);
    assert(!kv_sim_cut(made.sim) && kv_sim_writes(made.sim) == 2);
    for (uint32_t i = 0; i < 3; i++)
        writes[i] = submit_write(&made, FILE_USED, i + 1, 1, 3);
    assert(kv_sim_cut(made.sim) && kv_sim_writes(made.sim) == 3);
    assert(kv_sim_pump(made.sim, 10) == 0 && kv_sim_in_flight(made.sim) == 0);
    assert(end(&made, first) == -ECANCELED);
    for (uint32_t i = 0; i < 3; i++)
        assert(end(&made, writes[i]) == -ECANCELED);
    kv_sim_power_cut(made.sim);
    assert(kv_sim_cut(made.sim));
    assert(tag_at(made.sim, FILE_USED, 2 * PAGE) == 0);
    client_next_life(&made);
    assert(!kv_sim_cut(made.sim));
    assert(write_pages(&made, FILE_USED, 2, 1, 4) == PAGE);
    kv_sim_close(made.sim);
}

static void the_write_that_cuts_is_itself_in_flight(void)
{
    int kept = 0, lost = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 1);

        kv_sim_cut_at(made.sim, 1);
        assert(write_pages(&made, FILE_USED, 0, 1, 1) == -ECANCELED);
        kv_sim_power_cut(made.sim);
        kept += tag_at(made.sim, FILE_USED, 0) == 1;
        lost += tag_at(made.sim, FILE_USED, 0) == 0;
        kv_sim_close(made.sim);
    }
    assert(kept > SEEDS / 5 && lost > SEEDS / 5);
}

/* Write submitted, completed, flush submitted, completed. */
static void events_are_submissions_and_completions_of_writes_and_flushes(void)
{
    client made = client_with_pages(1, 1);
    operation *started = submit_write(&made, FILE_USED, 0, 1, 1);

    assert(kv_sim_events(made.sim) == 1);
    assert(end(&made, started) == PAGE && kv_sim_events(made.sim) == 2);
    assert(end(&made, submit_read(&made, FILE_USED, 0, 1)) == PAGE);
    assert(kv_sim_events(made.sim) == 2);
    started = submit_flush(&made, 1u << FILE_USED);
    assert(kv_sim_events(made.sim) == 3);
    assert(end(&made, started) == 0 && kv_sim_events(made.sim) == 4);
    kv_sim_close(made.sim);
}

static void a_completion_that_cuts_has_happened_but_is_not_told(void)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 1);
        operation *flush;

        kv_sim_cut_at_event(made.sim, 4);
        assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
        flush = submit_flush(&made, 1u << FILE_USED);
        wait_for(&made, flush);
        assert(kv_sim_cut(made.sim));
        assert(flush->finished == 0 && flush->io.result == -ECANCELED);
        operation_free(flush);
        kv_sim_power_cut(made.sim);
        assert(sectors_with(made.sim, FILE_USED, 0, 8, 1) == 8);
        kv_sim_close(made.sim);
    }
}

static void a_copy_meets_its_own_fate_and_the_first_goes_on(void)
{
    int kept = 0, lost = 0;
    kv_sim *copy = client_with_pages(1, 100).sim;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(1, 30);
        operation *write;
        uint64_t in_flight, completed;

        assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
        assert(flush_file(&made, FILE_USED) == 0);
        assert(write_pages(&made, FILE_USED, 1, 1, 2) == PAGE);
        write = submit_write(&made, FILE_USED, 2, 1, 3);
        assert(kv_sim_copy(copy, made.sim, seed) == 0);
        kv_sim_power_cut(copy);
        assert(end(&made, write) == PAGE);

        assert(sectors_with(made.sim, FILE_USED, 16, 24, 3) == 8);
        assert(sectors_with(copy, FILE_USED, 0, 8, 1) == 8);
        completed = sectors_with(copy, FILE_USED, 8, 16, 2);
        in_flight = sectors_with(copy, FILE_USED, 16, 24, 3);
        kept += completed == 8 && in_flight == 8;
        lost += completed == 0 && in_flight == 0;
        kv_sim_close(made.sim);
    }
    kv_sim_close(copy);
    assert(kept > SEEDS / 8 && lost > SEEDS / 8);
}

static void a_copy_keeps_the_incarnation_until_its_power_is_cut(void)
{
    client made = client_of_seed(1), copy = client_of_seed(2);
    uint64_t before = made.device->operations->incarnation(made.device);

    assert(kv_sim_copy(copy.sim, made.sim, 3) == 0);
    kv_sim_kill(copy.sim);
    client_next_life(&copy);
    assert(copy.device->operations->incarnation(copy.device) == before);
    assert(kv_sim_copy(copy.sim, made.sim, 3) == 0);
    kv_sim_power_cut(copy.sim);
    client_next_life(&copy);
    assert(copy.device->operations->incarnation(copy.device) != before);
    kv_sim_close(copy.sim);
    kv_sim_close(made.sim);
}

/* A digest of everything lives show: order of completions and the bytes after each crash. */
static uint64_t digest_of_lives(client *used, uint64_t seed)
{
    client made = *used;
    uint64_t digest = seed, size;

    assert(reserve(&made, FILE_USED, 8 * PAGE) == 0);
    for (uint64_t life = 0; life < 6; life++) {
        operation *writes[8];
        uint8_t *bytes;

        for (uint32_t i = 0; i < 8; i++)
            writes[i] = submit_write(&made, FILE_USED, i, 1, life * 8 + i + 1);
        kv_sim_fail(made.sim, KV_IO_WRITE, FILE_USED, -EIO, 1);
        kv_sim_pump(made.sim, 4);
        for (uint32_t i = 0; i < 8; i++)
            digest = digest * 31 + (uint64_t)writes[i]->finished;
        if (life % 2 == 0)
            kv_sim_power_cut(made.sim);
        else
            kv_sim_kill(made.sim);
        bytes = kv_sim_bytes(made.sim, FILE_USED, &size);
        for (uint64_t i = 0; i < size; i++)
            digest = digest * 31 + bytes[i];
        for (uint32_t i = 0; i < 8; i++)
            operation_free(writes[i]);
        client_next_life(&made);
        digest = digest * 31 + made.device->operations->incarnation(made.device);
    }
    return digest;
}

static void a_reset_is_a_fresh_device_and_a_seed_replays(void)
{
    kv_sim_options options = {.space_max = SPACE, .reorder_completions = true, .tear_bytes = true};
    uint64_t before = 0;
    client reused = client_open(&options);

    for (options.seed = 0; options.seed < 20; options.seed++) {
        client fresh = client_open(&options);
        uint64_t digest = digest_of_lives(&fresh, options.seed);

        kv_sim_reset(reused.sim, options.seed);
        client_next_life(&reused);
        assert(digest == digest_of_lives(&reused, options.seed));
        assert(digest != before);
        before = digest;
        kv_sim_close(fresh.sim);
    }
    kv_sim_close(reused.sim);
}

int main(void)
{
    a_reservation_is_zero_filled_and_never_shrinks();
    growth_keeps_bytes();
    a_full_device_refuses_and_stays_unchanged();
    transfers_beyond_the_size_are_refused();
    a_write_is_read_once_it_completed();
    completions_keep_their_order();
    reordered_completions_come_in_every_order();
    done_may_submit_its_io_again();
    only_a_power_cut_changes_the_incarnation();
    a_life_that_goes_on_completes_everything_at_close();
    a_life_that_ended_runs_and_takes_nothing();
    a_failed_operation_answers_its_error();
    a_flip_changes_one_stored_byte();
    statistics_count_what_was_submitted();
    a_cut_strikes_when_its_write_is_submitted();
    the_write_that_cuts_is_itself_in_flight();
    events_are_submissions_and_completions_of_writes_and_flushes();
    a_completion_that_cuts_has_happened_but_is_not_told();
    a_copy_meets_its_own_fate_and_the_first_goes_on();
    a_copy_keeps_the_incarnation_until_its_power_is_cut();
    a_reset_is_a_fresh_device_and_a_seed_replays();
}
