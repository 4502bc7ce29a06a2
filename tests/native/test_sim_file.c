#include "sim_client.h"

static void unflushed_writes_are_kept_lost_and_torn(void)
{
    int kept = 0, lost = 0, torn = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 4);
        bool in_flight = seed % 2 == 0;
        operation *write = submit_write(&made, FILE_USED, 1, 2, 7);
        uint64_t count;

        if (!in_flight)
            kv_sim_pump(made.sim, 1);
        kv_sim_power_cut(made.sim);
        operation_free(write);
        count = sectors_with(made.sim, FILE_USED, 8, 24, 7);
        assert(count + sectors_with(made.sim, FILE_USED, 8, 24, 0) == 16);
        assert(sectors_with(made.sim, FILE_USED, 0, 8, 0) == 8);
        assert(sectors_with(made.sim, FILE_USED, 24, 32, 0) == 8);
        kept += count == 16;
        lost += count == 0;
        torn += count > 0 && count < 16;
        kv_sim_close(made.sim);
    }
    assert(kept > SEEDS / 5 && lost > SEEDS / 5 && torn > SEEDS / 8);
}

static void tearing_reaches_inside_sectors_only_when_asked(void)
{
    int inside = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_open(
            &(kv_sim_options){.seed = seed, .space_max = SPACE, .tear_bytes = seed % 2 == 0});
        uint64_t mixed;

        assert(reserve(&made, FILE_USED, 2 * PAGE) == 0);
        assert(write_pages(&made, FILE_USED, 0, 2, 0x0707070707070707u) == 2 * PAGE);
        kv_sim_power_cut(made.sim);
        mixed = sectors_with(made.sim, FILE_USED, 0, 16, UINT64_MAX);
        assert(mixed == 0 || seed % 2 == 0);
        inside += mixed > 0;
        kv_sim_close(made.sim);
    }
    assert(inside > SEEDS / 20);
}

static void either_of_two_writes_to_a_sector_survives(void)
{
    int survived[3] = {0};

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 1);

        for (uint64_t tag = 1; tag <= 2; tag++)
            assert(write_pages(&made, FILE_USED, 0, 1, tag) == PAGE);
        kv_sim_power_cut(made.sim);
        for (uint64_t sector = 0; sector < 8; sector++) {
            uint64_t tag = sector_tag(made.sim, FILE_USED, sector);

            assert(tag <= 2);
            survived[tag]++;
        }
        kv_sim_close(made.sim);
    }
    /* The newest one kept remains; so the older one shows only where the newer is lost. */
    assert(survived[2] > SEEDS * 3);
    assert(survived[0] > SEEDS * 2);
    assert(survived[1] > SEEDS / 2 && survived[1] < SEEDS * 3 / 2);
}

static void a_later_write_survives_without_an_earlier_one(void)
{
    int reordered = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 2);

        assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
        assert(write_pages(&made, FILE_USED, 1, 1, 2) == PAGE);
        kv_sim_power_cut(made.sim);
        reordered += sectors_with(made.sim, FILE_USED, 0, 8, 1) == 0 &&
                     sectors_with(made.sim, FILE_USED, 8, 16, 2) == 8;
        kv_sim_close(made.sim);
    }
    assert(reordered > SEEDS / 40);
}

static void a_flushed_write_survives_every_power_cut(void)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 4);

        assert(write_pages(&made, FILE_USED, 0, 4, 1) == 4 * PAGE);
        assert(flush_file(&made, FILE_USED) == 0);
        assert(write_pages(&made, FILE_USED, 1, 1, 2) == PAGE);
        kv_sim_power_cut(made.sim);
        assert(sectors_with(made.sim, FILE_USED, 0, 8, 1) == 8);
        assert(sectors_with(made.sim, FILE_USED, 16, 32, 1) == 16);
        assert(sectors_with(made.sim, FILE_USED, 8, 16, 0) == 0);
        kv_sim_power_cut(made.sim);
        assert(sectors_with(made.sim, FILE_USED, 16, 32, 1) == 16);
        kv_sim_close(made.sim);
    }
}

static void a_flush_covers_what_completed_before_it_was_submitted(void)
{
    int lost_between = 0, lost_other_file = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 2);
        operation *between, *flush;

        assert(reserve(&made, KV_FILE_JOURNAL_0, PAGE) == 0);
        assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
        assert(write_pages(&made, KV_FILE_JOURNAL_0, 0, 1, 1) == PAGE);
        between = submit_write(&made, FILE_USED, 1, 1, 1);
        flush = submit_flush(&made, 1u << FILE_USED);
        assert(end(&made, between) == PAGE);
        assert(end(&made, flush) == 0);
        kv_sim_power_cut(made.sim);
        assert(sectors_with(made.sim, FILE_USED, 0, 8, 1) == 8);
        lost_between += sectors_with(made.sim, FILE_USED, 8, 16, 1) == 0;
        lost_other_file += sectors_with(made.sim, KV_FILE_JOURNAL_0, 0, 8, 1) == 0;
        kv_sim_close(made.sim);
    }
    assert(lost_between > SEEDS / 5);
    assert(lost_other_file > SEEDS / 5);
}

static void a_flush_that_did_not_complete_proves_nothing(void)
{
    int lost = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 1);
        operation *flush;

        assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
        flush = submit_flush(&made, 1u << FILE_USED);
        kv_sim_power_cut(made.sim);
        assert(flush->finished == 0);
        operation_free(flush);
        lost += sectors_with(made.sim, FILE_USED, 0, 8, 1) == 0;
        kv_sim_close(made.sim);
    }
    assert(lost > SEEDS / 5);
}

static void a_kill_keeps_what_completed_and_tears_at_pages(void)
{
    int kept = 0, lost = 0, torn = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 5);
        operation *write;
        uint64_t count;

        assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
        write = submit_write(&made, FILE_USED, 1, 4, 2);
        kv_sim_kill(made.sim);
        assert(write->finished == 0);
        operation_free(write);
        assert(sectors_with(made.sim, FILE_USED, 0, 8, 1) == 8);
        count = sectors_with(made.sim, FILE_USED, 8, 40, 2);
        for (uint64_t page = 1; page < 5; page++)
            assert(sectors_with(made.sim, FILE_USED, page * 8, page * 8 + 8, 2) % 8 == 0);
        kept += count == 32;
        lost += count == 0;
        torn += count > 0 && count < 32;
        kv_sim_close(made.sim);
    }
    assert(kept > SEEDS / 5 && lost > SEEDS / 5 && torn > SEEDS / 8);
}

static void a_kill_makes_nothing_durable(void)
{
    int lost = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 1);

        assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
        kv_sim_kill(made.sim);
        client_next_life(&made);
        if (seed % 2 == 0)
            assert(flush_file(&made, FILE_USED) == 0);
        kv_sim_power_cut(made.sim);
        assert(seed % 2 == 1 || sectors_with(made.sim, FILE_USED, 0, 8, 1) == 8);
        lost += sectors_with(made.sim, FILE_USED, 0, 8, 1) == 0;
        kv_sim_close(made.sim);
    }
    assert(lost > SEEDS / 10);
}

static void a_failed_write_leaves_old_new_or_torn(void)
{
    int kept = 0, lost = 0, torn = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 2);
        uint64_t count;

        kv_sim_fail(made.sim, KV_IO_WRITE, FILE_USED, -EIO, 1);
        assert(write_pages(&made, FILE_USED, 0, 2, 1) == -EIO);
        count = sectors_with(made.sim, FILE_USED, 0, 16, 1);
        kept += count == 16;
        lost += count == 0;
        torn += count > 0 && count < 16;
        kv_sim_close(made.sim);
    }
    assert(kept > SEEDS / 5 && lost > SEEDS / 5 && torn > SEEDS / 8);
}

static void a_flush_after_a_failed_one_proves_nothing(void)
{
    int lost = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, 1);

        assert(write_pages(&made, FILE_USED, 0, 1, 1) == PAGE);
        kv_sim_fail(made.sim, KV_IO_FLUSH, FILE_USED, -EIO, 1);
        assert(flush_file(&made, FILE_USED) == -EIO);
        assert(flush_file(&made, FILE_USED) == 0);
        kv_sim_power_cut(made.sim);
        lost += sectors_with(made.sim, FILE_USED, 0, 8, 1) == 0;
        kv_sim_close(made.sim);
    }
    assert(lost > SEEDS / 5);
}

static void growth_is_lost_without_a_flush_only_when_asked(void)
{
    int lost = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_open(
            &(kv_sim_options){.seed = seed, .space_max = SPACE, .lose_reserves = seed % 3 != 0});
        uint64_t size;

        assert(reserve(&made, FILE_USED, PAGE) == 0);
        assert(flush_file(&made, FILE_USED) == 0);
        assert(reserve(&made, FILE_USED, 4 * PAGE) == 0);
        assert(write_pages(&made, FILE_USED, 3, 1, 1) == PAGE);
        if (seed % 3 == 1)
            assert(flush_file(&made, FILE_USED) == 0);
        kv_sim_power_cut(made.sim);
        kv_sim_bytes(made.sim, FILE_USED, &size);
        assert(size == 4 * PAGE || (size == PAGE && seed % 3 == 2));
        lost += size == PAGE;
        client_next_life(&made);
        assert(reserve(&made, FILE_USED, 5 * PAGE) == 0);
        assert(tag_at(made.sim, FILE_USED, 3 * PAGE) == 0 || size == 4 * PAGE);
        kv_sim_close(made.sim);
    }
    assert(lost > SEEDS / 8);
}

/* What the model knows of one page: its durable tag, and the tags written since, oldest first. */
#define MODEL_PAGES 6
#define MODEL_TAGS_MAX 64

typedef struct model {
    uint64_t sectors[MODEL_PAGES * 8]; /* durable tags */
    uint64_t current[MODEL_PAGES * 8]; /* what a read sees */
    uint64_t tags[MODEL_PAGES][MODEL_TAGS_MAX];
    uint32_t count[MODEL_PAGES];   /* of tags; the first `completed` of them have completed */
    uint32_t completed[MODEL_PAGES];
    operation *writes[MODEL_PAGES]; /* in flight, by first page */
} model;

static void model_complete(client *made, model *expected, uint32_t page)
{
    operation *write = expected->writes[page];
    uint32_t pages = write->io.size / PAGE;

    for (uint32_t i = page; i < page + pages; i++) {
        for (uint32_t sector = i * 8; sector < i * 8 + 8; sector++)
            expected->current[sector] = expected->tags[i][expected->count[i] - 1];
        expected->completed[i] = expected->count[i];
        expected->writes[i] = NULL;
    }
    assert(end(made, write) == pages * PAGE);
}

static void model_write(client *made, model *expected, kv_random *random, uint64_t tag)
{
    uint32_t page = (uint32_t)kv_random_below(random, MODEL_PAGES);
    uint32_t pages = 1 + (uint32_t)kv_random_below(random, MODEL_PAGES - page);
    operation *write;

    for (uint32_t i = page; i < page + pages; i++)
        if (expected->writes[i] != NULL || expected->count[i] == MODEL_TAGS_MAX)
            return;
    write = submit_write(made, FILE_USED, page, pages, tag);
    for (uint32_t i = page; i < page + pages; i++) {
        expected->tags[i][expected->count[i]++] = tag;
        expected->writes[i] = write;
    }
}

/* Completion order is the sim's, so the model completes everything on the way to one write. */
static void model_settle(client *made, model *expected)
{
    for (uint32_t page = 0; page < MODEL_PAGES; page++)
        if (expected->writes[page] != NULL)
            model_complete(made, expected, page);
}

static void model_flush(client *made, model *expected)
{
    model_settle(made, expected);
    assert(flush_file(made, FILE_USED) == 0);
    memcpy(expected->sectors, expected->current, sizeof(expected->sectors));
    memset(expected->count, 0, sizeof(expected->count));
    memset(expected->completed, 0, sizeof(expected->completed));
}

static bool model_allows(const model *expected, uint32_t sector, uint64_t tag, bool power)
{
    uint32_t page = sector / 8;
    uint32_t first = power ? 0 : expected->completed[page];

    if (tag == (power ? expected->sectors[sector] : expected->current[sector]))
        return true;
    for (uint32_t i = first; i < expected->count[page]; i++)
        if (expected->tags[page][i] == tag)
            return true;
    return false;
}

static void model_crash(client *made, model *expected, bool power)
{
    for (uint32_t page = 0; page < MODEL_PAGES; page++) {
        operation *write = expected->writes[page];

        for (uint32_t i = page; i < MODEL_PAGES && write != NULL; i++)
            if (expected->writes[i] == write)
                expected->writes[i] = NULL;
        if (write != NULL)
            operation_free(write); /* The dead life's memory is not touched again. */
    }
    if (power)
        kv_sim_power_cut(made->sim);
    else
        kv_sim_kill(made->sim);
    for (uint32_t sector = 0; sector < MODEL_PAGES * 8; sector++) {
        uint64_t tag = sector_tag(made->sim, FILE_USED, sector);

        assert(model_allows(expected, sector, tag, power));
        expected->current[sector] = tag;
    }
    if (power) {
        memcpy(expected->sectors, expected->current, sizeof(expected->sectors));
        memset(expected->count, 0, sizeof(expected->count));
    }
    memcpy(expected->completed, expected->count, sizeof(expected->completed));
    client_next_life(made);
}

static void random_lives_agree_with_a_naive_model(void)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        client made = client_with_pages(seed, MODEL_PAGES);
        model *expected = calloc(1, sizeof(*expected));
        kv_random random;

        assert(expected != NULL);
        kv_random_init(&random, ~seed);
        for (uint64_t step = 1; step <= 120; step++) {
            uint64_t what = kv_random_below(&random, 20);

            if (what < 13)
                model_write(&made, expected, &random, step);
            else if (what < 16)
                model_settle(&made, expected);
            else if (what < 18)
                model_flush(&made, expected);
            else
                model_crash(&made, expected, what == 18);
            for (uint32_t sector = 0; sector < MODEL_PAGES * 8; sector++)
                assert(sector_tag(made.sim, FILE_USED, sector) == expected->current[sector]);
        }
        model_crash(&made, expected, true);
        free(expected);
        kv_sim_close(made.sim);
    }
}

int main(void)
{
    unflushed_writes_are_kept_lost_and_torn();
    tearing_reaches_inside_sectors_only_when_asked();
    either_of_two_writes_to_a_sector_survives();
    a_later_write_survives_without_an_earlier_one();
    a_flushed_write_survives_every_power_cut();
    a_flush_covers_what_completed_before_it_was_submitted();
    a_flush_that_did_not_complete_proves_nothing();
    a_kill_keeps_what_completed_and_tears_at_pages();
    a_kill_makes_nothing_durable();
    a_failed_write_leaves_old_new_or_torn();
    a_flush_after_a_failed_one_proves_nothing();
    growth_is_lost_without_a_flush_only_when_asked();
    random_lives_agree_with_a_naive_model();
}
