/* Runs a fuzz target where libFuzzer is missing: first the corpus files and folders named as
 * arguments, then seeded random mutations of them. The options are libFuzzer's of the same name, so
 * one command line serves both:
 *
 *   -runs=N  inputs in all, default the corpus and 100,000 more
 *   -seed=S  the same seed and corpus give the same inputs, default 1
 *
 * Other options are ignored. An input that aborts the process is left in the file crash-input; with
 * sanitizers that needs ASAN_OPTIONS=abort_on_error=1. */

#include "bytes/random.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CORPUS_COUNT_MAX 4096u
#define INPUT_SIZE_MAX 8192u
#define PATH_SIZE_MAX 4096u
#define RUNS_DEFAULT 100000u
#define MUTATIONS_MAX 8u
#define INSERT_SIZE_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct input {
    size_t size;
    uint8_t bytes[INPUT_SIZE_MAX];
} input;

typedef struct corpus {
    input *inputs[CORPUS_COUNT_MAX];
    uint32_t count;
} corpus;

/* A signal handler gets no argument of ours. */
static input current;

static void keep_input(int number)
{
    int file = open("crash-input", O_WRONLY | O_CREAT | O_TRUNC, 0644);

    if (file >= 0 && write(file, current.bytes, current.size) >= 0)
        close(file);
    signal(number, SIG_DFL);
    raise(number);
}

static void load_file(corpus *all, const char *path)
{
    FILE *file = fopen(path, "rb");
    input *loaded;

    if (!file || all->count == CORPUS_COUNT_MAX) {
        fprintf(stderr, "%s: not read\n", path);
        exit(1);
    }
    loaded = malloc(sizeof(*loaded));
    assert(loaded != NULL);
    loaded->size = fread(loaded->bytes, 1, sizeof(loaded->bytes), file);
    fclose(file);
    all->inputs[all->count++] = loaded;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* In the order of names, which is the same everywhere. */
static void load_path(corpus *all, const char *path)
{
    struct stat status;
    struct dirent **entries;
    int count;

    if (stat(path, &status) < 0 || !S_ISDIR(status.st_mode)) {
        load_file(all, path);
        return;
    }
    count = scandir(path, &entries, NULL, by_name);
    assert(count >= 0);
    for (int i = 0; i < count; i++) {
        char name[PATH_SIZE_MAX];

        snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            load_file(all, name);
        free(entries[i]);
    }
    free(entries);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Open a gap at a random place and fill it with random bytes. */
static void input_grow(input *mutant, kv_random *random)
{
    size_t at = kv_random_below(random, mutant->size + 1);
    size_t size = 1 + kv_random_below(random, INSERT_SIZE_MAX);

    size = smaller(size, INPUT_SIZE_MAX - mutant->size);
    memmove(mutant->bytes + at + size, mutant->bytes + at, mutant->size - at);
    kv_random_fill(random, mutant->bytes + at, size);
    mutant->size += size;
}

static void input_shrink(input *mutant, kv_random *random)
{
    size_t at = kv_random_below(random, mutant->size);
    size_t size = 1 + kv_random_below(random, mutant->size - at);

    memmove(mutant->bytes + at, mutant->bytes + at + size, mutant->size - at - size);
    mutant->size -= size;
}

/* A number at which decoders go wrong, in a width in which they read it. */
static void input_place_number(input *mutant, kv_random *random)
{
    const uint64_t numbers[8] = {0, 1, 0x7f, 0x80, 0xffff, 0x7fffffff, 0xffffffff, UINT64_MAX};
    uint64_t number = numbers[kv_random_below(random, 8)];
    size_t at = kv_random_below(random, mutant->size);
    size_t width = (size_t)1 << kv_random_below(random, 4);

    for (size_t i = 0; i < smaller(width, mutant->size - at); i++)
        mutant->bytes[at + i] = (uint8_t)(number >> 8 * i);
}

/* Put a part of another input over a part of this one. */
static void input_splice(input *mutant, const input *other, kv_random *random)
{
    size_t from = kv_random_below(random, other->size + 1);
    size_t at = kv_random_below(random, mutant->size + 1);
    size_t size = smaller(other->size - from, INPUT_SIZE_MAX - at);

    if (size == 0)
        return;
    size = 1 + kv_random_below(random, size);
    memcpy(mutant->bytes + at, other->bytes + from, size);
    if (mutant->size < at + size)
        mutant->size = at + size;
}

static void input_mutate(input *mutant, const input *other, kv_random *random)
{
    uint64_t choice = kv_random_below(random, 8);

    if (mutant->size == 0 || choice == 0)
        input_grow(mutant, random);
    else if (choice == 1)
        input_shrink(mutant, random);
    else if (choice == 2)
        input_place_number(mutant, random);
    else if (choice == 3)
        input_splice(mutant, other, random);
    else if (choice < 6)
        mutant->bytes[kv_random_below(random, mutant->size)] = (uint8_t)kv_random_next(random);
    else
        mutant->bytes[kv_random_below(random, mutant->size)] ^=
            (uint8_t)(1u << kv_random_below(random, 8));
}

/* From memory of exactly that size, so that a sanitizer sees any access behind it. */
static void current_run(void)
{
    uint8_t *copy = malloc(current.size ? current.size : 1);

    assert(copy != NULL);
    memcpy(copy, current.bytes, current.size);
    LLVMFuzzerTestOneInput(copy, current.size);
    free(copy);
}

static void current_draw(const corpus *all, kv_random *random)
{
    const input *other = all->inputs[kv_random_below(random, all->count)];

    current = *all->inputs[kv_random_below(random, all->count)];
    for (uint64_t i = kv_random_below(random, MUTATIONS_MAX) + 1; i > 0; i--)
        input_mutate(&current, other, random);
}

int main(int count, char **arguments)
{
    static corpus all;
    static input empty;
    unsigned long long runs = 0, seed = 1, run = 0;
    kv_random random;

    all.inputs[all.count++] = &empty;
    for (int i = 1; i < count; i++) {
        if (sscanf(arguments[i], "-runs=%llu", &runs) == 1)
            continue;
        if (sscanf(arguments[i], "-seed=%llu", &seed) != 1 && arguments[i][0] != '-')
            load_path(&all, arguments[i]);
    }
    if (runs == 0)
        runs = all.count + RUNS_DEFAULT;
    kv_random_init(&random, seed);
    signal(SIGABRT, keep_input);
    signal(SIGSEGV, keep_input);

    for (; run < runs; run++) {
        if (run < all.count)
            current = *all.inputs[run];
        else
            current_draw(&all, &random);
        current_run();
    }
    printf("%llu runs, seed %llu, %u corpus inputs: no failure\n", runs, seed, all.count - 1);
    while (all.count > 1)
        free(all.inputs[--all.count]);
    return 0;
}
