#include "drivers/driver_files.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[PATH_MAX];

static void directory_make(void)
{
    const char *parent = getenv("TMPDIR");

    (void)snprintf(directory, sizeof(directory), "%s/kv-test-XXXXXX",
                   parent != NULL ? parent : ".");
    assert(mkdtemp(directory) != NULL);
}

static const char *path_of(kv_file file)
{
    static char path[PATH_MAX + 32];

    (void)snprintf(path, sizeof(path), "%s/%s", directory, kv_file_name(file));
    return path;
}

static void directory_remove(void)
{
    for (unsigned i = 0; i < KV_FILE_COUNT; i++) {
        (void)unlink(path_of((kv_file)i));
        (void)rmdir(path_of((kv_file)i));
    }
    assert(rmdir(directory) == 0);
}

static kv_driver_options making(void)
{
    return (kv_driver_options){.directory = directory, .create = true, .direct = true};
}

static void create_makes_private_files_that_no_program_inherits(void)
{
    kv_driver_options options = making();
    kv_driver_files files;
    struct stat status;

    directory_make();
    assert(kv_driver_files_open(&options, &files, NULL) == 0);

    for (unsigned i = 0; i < KV_FILE_COUNT; i++) {
        assert(stat(path_of((kv_file)i), &status) == 0);
        assert((status.st_mode & 077) == 0 && status.st_size == 0);
        assert((fcntl(files.descriptors[i], F_GETFD) & FD_CLOEXEC) != 0);
    }
    kv_driver_files_close(&files);
    directory_remove();
}

static void open_names_the_file_that_is_missing(void)
{
    kv_driver_options options = making();
    kv_driver_files files;
    kv_file bad;

    directory_make();
    options.create = false;
    assert(kv_driver_files_open(&options, &files, &bad) == -ENOENT);
    assert(bad == KV_FILE_SUPERBLOCK);
    options.create = true;
    assert(kv_driver_files_open(&options, &files, &bad) == 0 && bad == KV_FILE_COUNT);
    kv_driver_files_close(&files);
    assert(unlink(path_of(KV_FILE_JOURNAL_1)) == 0);
    options.create = false;
    assert(kv_driver_files_open(&options, &files, &bad) == -ENOENT);
    assert(bad == KV_FILE_JOURNAL_1);
    directory_remove();
}

static void what_is_not_a_regular_file_is_refused(void)
{
    kv_driver_options options = making();
    kv_driver_files files;
    kv_file bad;

    directory_make();
    assert(mkdir(path_of(KV_FILE_SLABS), 0700) == 0);
    assert(kv_driver_files_open(&options, &files, &bad) == -EISDIR && bad == KV_FILE_SLABS);
    assert(rmdir(path_of(KV_FILE_SLABS)) == 0);
    assert(mkfifo(path_of(KV_FILE_SLABS), 0600) == 0);
    assert(kv_driver_files_open(&options, &files, &bad) == -EINVAL && bad == KV_FILE_SLABS);
    directory_remove();
}

static void a_missing_directory_is_nobodys_file(void)
{
    kv_driver_options options = {.directory = "./no-such-directory", .create = true};
    kv_driver_files files;
    kv_file bad;

    assert(kv_driver_files_open(&options, &files, &bad) == -ENOENT && bad == KV_FILE_COUNT);
}

static void reserve_grows_and_never_shrinks(void)
{
    kv_driver_options options = making();
    kv_driver_files files;
    struct stat status;

    directory_make();
    assert(kv_driver_files_open(&options, &files, NULL) == 0);
    assert(kv_driver_files_reserve(&files, KV_FILE_SLABS, 1 << 20) == 0);
    assert(kv_driver_files_size(&files, KV_FILE_SLABS) == 1 << 20);
    assert(kv_driver_files_reserve(&files, KV_FILE_SLABS, 4096) == 0);
    assert(kv_driver_files_size(&files, KV_FILE_SLABS) == 1 << 20);
    assert(kv_driver_files_reserve(&files, KV_FILE_SLABS, 3 << 20) == 0);
    assert(stat(path_of(KV_FILE_SLABS), &status) == 0);
    assert(status.st_size == 3 << 20 && status.st_blocks * 512 >= 3 << 20);
    kv_driver_files_close(&files);
    directory_remove();
}

static void more_than_the_space_is_refused_and_changes_nothing(void)
{
    kv_driver_options options = making();
    kv_driver_files files;
    struct statvfs space;
    uint64_t beyond;

    directory_make();
    assert(kv_driver_files_open(&options, &files, NULL) == 0);
    assert(kv_driver_files_reserve(&files, KV_FILE_SLABS, 8192) == 0);
    assert(fstatvfs(files.descriptors[KV_FILE_SLABS], &space) == 0);
    beyond = 2 * (uint64_t)space.f_frsize * space.f_blocks;
    assert(kv_driver_files_reserve(&files, KV_FILE_SLABS, beyond) == -ENOSPC);
    assert(kv_driver_files_reserve(&files, KV_FILE_SLABS, UINT64_MAX) == -EFBIG);
    assert(kv_driver_files_size(&files, KV_FILE_SLABS) == 8192);
    kv_driver_files_close(&files);
    directory_remove();
}

/* Runs in a child on a file system of 1 MiB of its own; 2: that is not permitted here. */
static int full_file_system(void)
{
    kv_driver_options options = making();
    kv_driver_files files;

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", directory, "tmpfs", 0, "size=1m") != 0)
        return 2;
    assert(kv_driver_files_open(&options, &files, NULL) == 0);
    assert(kv_driver_files_reserve(&files, KV_FILE_SLABS, 512 << 10) == 0);
    assert(kv_driver_files_reserve(&files, KV_FILE_JOURNAL_0, 768 << 10) == -ENOSPC);
    assert(kv_driver_files_size(&files, KV_FILE_JOURNAL_0) == 0);
    assert(kv_driver_files_fill(&files, KV_FILE_JOURNAL_0, 0, 768 << 10) == -ENOSPC);
    kv_driver_files_close(&files);
    return 0;
}

static void a_full_file_system_is_an_error_of_the_reservation(void)
{
    int status;
    pid_t child;

    directory_make();
    child = fork();
    if (child == 0)
        _exit(full_file_system());
    assert(waitpid(child, &status, 0) == child);
    assert(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2));
    directory_remove();
}

static void zeros_reserve_where_nothing_else_does(void)
{
    kv_driver_options options = making();
    kv_driver_files files;
    struct stat status;
    char byte = 1;

    directory_make();
    assert(kv_driver_files_open(&options, &files, NULL) == 0);
    assert(kv_driver_files_fill(&files, KV_FILE_SLABS, 0, (5 << 20) + 4096) == 0);
    assert(stat(path_of(KV_FILE_SLABS), &status) == 0);
    assert(status.st_size == (5 << 20) + 4096 && status.st_blocks * 512 >= 5 << 20);

    /* A ragged end keeps its bytes. */
    kv_driver_files_buffer(&files, KV_FILE_JOURNAL_0);
    assert(pwrite(files.descriptors[KV_FILE_JOURNAL_0], "x", 1, 99) == 1);
    assert(kv_driver_files_fill(&files, KV_FILE_JOURNAL_0, 100, 8192) == 0);
    assert(pread(files.descriptors[KV_FILE_JOURNAL_0], &byte, 1, 99) == 1 && byte == 'x');
    assert(kv_driver_files_size(&files, KV_FILE_JOURNAL_0) == 8192);
    kv_driver_files_close(&files);
    directory_remove();
}

static void a_buffered_file_takes_any_alignment(void)
{
    kv_driver_options options = making();
    kv_driver_files files;

    directory_make();
    assert(kv_driver_files_open(&options, &files, NULL) == 0);
    kv_driver_files_buffer(&files, KV_FILE_SLABS);
    assert(!atomic_load(&files.direct[KV_FILE_SLABS]));
    assert((fcntl(files.descriptors[KV_FILE_SLABS], F_GETFL) & O_DIRECT) == 0);
    assert(pwrite(files.descriptors[KV_FILE_SLABS], "odd", 3, 1) == 3);
    kv_driver_files_close(&files);

    options.direct = false;
    assert(kv_driver_files_open(&options, &files, NULL) == 0);
    for (unsigned i = 0; i < KV_FILE_COUNT; i++)
        assert((fcntl(files.descriptors[i], F_GETFL) & O_DIRECT) == 0);
    kv_driver_files_close(&files);
    directory_remove();
}

static void text_write(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert(file != NULL);
    assert(fputs(text, file) >= 0);
    assert(fclose(file) == 0);
}

static void the_incarnation_is_the_boots(void)
{
    const char *none = "./no-such-file";
    char path[PATH_MAX];
    uint64_t first;
    uint64_t second;

    directory_make();
    (void)snprintf(path, sizeof(path), "%s", path_of(KV_FILE_SUPERBLOCK));
    text_write(path, "3c1f2a5e\n");
    first = kv_driver_files_incarnation(path, none);
    assert(first != 0 && first == kv_driver_files_incarnation(path, none));
    text_write(path, "3c1f2a5f\n");
    assert(first != kv_driver_files_incarnation(path, none));

    text_write(path, "cpu 1 2 3\nbtime 1700000000\nprocesses 5\n");
    first = kv_driver_files_incarnation(none, path);
    text_write(path, "cpu 9 9 9\nbtime 1700000000\nprocesses 6\n");
    second = kv_driver_files_incarnation(none, path);
    assert(first != 0 && first == second);
    text_write(path, "cpu 9 9 9\nbtime 1700000001\nprocesses 6\n");
    assert(first != kv_driver_files_incarnation(none, path));
    directory_remove();
}

static void an_unknown_boot_is_never_the_same_twice(void)
{
    const char *none = "./no-such-file";

    assert(kv_driver_files_incarnation(none, none) != kv_driver_files_incarnation(none, none));
}

int main(void)
{
    create_makes_private_files_that_no_program_inherits();
    open_names_the_file_that_is_missing();
    what_is_not_a_regular_file_is_refused();
    a_missing_directory_is_nobodys_file();
    reserve_grows_and_never_shrinks();
    more_than_the_space_is_refused_and_changes_nothing();
    a_full_file_system_is_an_error_of_the_reservation();
    zeros_reserve_where_nothing_else_does();
    a_buffered_file_takes_any_alignment();
    the_incarnation_is_the_boots();
    an_unknown_boot_is_never_the_same_twice();
}
