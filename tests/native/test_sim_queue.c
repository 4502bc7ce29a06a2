#include "sim_client.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs `act` in a child and says whether an assertion stopped it. */
static bool aborts(void (*act)(client *made))
{
    int status;
    pid_t child = fork();

    assert(child >= 0);
    if (child == 0) {
        client made = client_with_pages(1, 8);

        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        act(&made);
        _exit(0);
    }
    assert(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void write_twice(client *made)
{
    submit_write(made, FILE_USED, 0, 2, 1);
    submit_write(made, FILE_USED, 1, 1, 2);
}

static void write_then_read(client *made)
{
    submit_write(made, FILE_USED, 0, 2, 1);
    submit_read(made, FILE_USED, 1, 2);
}

static void read_then_write(client *made)
{
    submit_read(made, FILE_USED, 1, 2);
    submit_write(made, FILE_USED, 2, 2, 1);
}

static void overlapping_operations_in_flight_are_a_bug(void)
{
    assert(aborts(write_twice));
    assert(aborts(write_then_read));
    assert(aborts(read_then_write));
}

static void mind_the_gap(client *made)
{
    assert(reserve(made, KV_FILE_JOURNAL_0, 8 * PAGE) == 0);
    submit_read(made, FILE_USED, 0, 2);
    submit_read(made, FILE_USED, 1, 2);
    submit_write(made, FILE_USED, 3, 2, 1);
    submit_write(made, FILE_USED, 5, 1, 1);
    submit_write(made, KV_FILE_JOURNAL_0, 0, 8, 1);
    submit_flush(made, 1u << FILE_USED);
    kv_sim_pump(made->sim, 10);
    submit_write(made, FILE_USED, 0, 8, 2);
}

static void neighbours_shared_reads_and_other_files_are_none(void)
{
    assert(!aborts(mind_the_gap));
}

static void submit_unaligned(client *made, uint64_t offset, uint32_t size, size_t memory)
{
    operation *started = transfer(KV_IO_READ, FILE_USED, 0, 3);

    started->io.offset = offset;
    started->io.size = size;
    started->io.memory = started->memory + memory;
    submit(made, started);
}

static void unaligned_offset(client *made)
{
    submit_unaligned(made, SECTOR, PAGE, 0);
}

static void unaligned_size(client *made)
{
    submit_unaligned(made, 0, PAGE + SECTOR, 0);
}

static void unaligned_memory(client *made)
{
    submit_unaligned(made, 0, PAGE, SECTOR);
}

static void no_size(client *made)
{
    submit_unaligned(made, 0, 0, 0);
}

static void unaligned_operations_are_a_bug(void)
{
    assert(aborts(unaligned_offset));
    assert(aborts(unaligned_size));
    assert(aborts(unaligned_memory));
    assert(aborts(no_size));
}

static void change_memory(client *made)
{
    operation *write = submit_write(made, FILE_USED, 0, 1, 1);

    write->memory[PAGE - 1] ^= 1;
    kv_sim_pump(made->sim, 1);
}

static void memory_that_changes_under_its_write_is_a_bug(void)
{
    assert(aborts(change_memory));
}

static void submit_again(client *made)
{
    operation *read = submit_read(made, FILE_USED, 0, 1);

    submit(made, read);
}

static void no_such_kind(client *made)
{
    submit(made, operation_of_kind(0));
}

static void no_such_file(client *made)
{
    submit_read(made, KV_FILE_COUNT, 0, 1);
}

static void flush_of_nothing(client *made)
{
    submit_flush(made, 0);
}

static void malformed_operations_are_a_bug(void)
{
    assert(aborts(submit_again));
    assert(aborts(no_such_kind));
    assert(aborts(no_such_file));
    assert(aborts(flush_of_nothing));
}

static void second_life(client *made)
{
    kv_sim_device(made->sim);
}

static void life_after_an_unresolved_cut(client *made)
{
    kv_sim_cut_at(made->sim, 1);
    submit_write(made, FILE_USED, 0, 1, 1);
    kv_sim_device(made->sim);
}

static void a_life_begins_only_after_the_one_before(void)
{
    assert(aborts(second_life));
    assert(aborts(life_after_an_unresolved_cut));
}

int main(void)
{
    overlapping_operations_in_flight_are_a_bug();
    neighbours_shared_reads_and_other_files_are_none();
    unaligned_operations_are_a_bug();
    memory_that_changes_under_its_write_is_a_bug();
    malformed_operations_are_a_bug();
    a_life_begins_only_after_the_one_before();
}
