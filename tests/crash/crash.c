/* Crash consistency at the file system's level: a store is used on a real directory by its real
 * driver, its system calls are recorded, and production recovery runs on what a crash behind any of
 * them may leave. It must open, hold what was promised, and show nothing that never was.
 *
 *   crash --store S --images I [--seconds S] [--seed N] [--operations N]
 *         [--driver threads|io_uring] [--durability disk|sync] [--plant journal|slabs|directory]
 *
 * Both directories are made, and stay: the store wants a real file system, images are faster in memory.
 * --plant leaves the flushes of one file, or of the directory, out of the record: then a violation
 * is expected, and its absence is the failure. What threads do first differs from run to run: a
 * seed gives the same load, not the same record. The first violation is told, its image kept.
 * Status 1: a violation (planted: none), 2: wrong arguments, 77: no io_uring here. */
#include "image.h"
#include "workload.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SECONDS_DEFAULT 60.0
#define OPERATIONS_DEFAULT 400u
#define ONE_CUT_IN 6u    /* of a walk through the record */
#define ONE_KILL_IN 4u   /* others are power cuts */
#define ONE_USED_IN 8u   /* is written to, closed and opened again */
#define RECOVERY_DEPTH 1u /* the driver's threads */
#define CLOSE_MS 30000u
#define DIRECTORY_MODE 0777

typedef struct options {
    double seconds;
    uint64_t seed;
    uint32_t operations;
    kv_driver driver;
    kv_durability durability;
    const char *store;
    const char *images;
    const char *plant;
} options;

typedef struct trial {
    workload work;
    image image;
    const char *directory;     /* of images */
    uint8_t *covered;          /* by event: cut here at least once */
    uint32_t cut;
    bool power;
    image_style style;
    uint64_t images, kills;
    uint8_t *values; /* room to read all keys */
    uint8_t *expected;
} trial;

static image *image_now; /* whom a replayed store tells what it changes */

static void changed(kv_file file, uint64_t offset, uint64_t size)
{
    image_changed(image_now, file, offset, size);
}

static double clock_s(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- one image ---- */

static const char *value_judge(trial *self, uint32_t key, const kv_item *item)
{
    uint32_t number = 0;

    if (item->status != KV_OK && item->status != KV_NOT_FOUND)
        return "a value cannot be read";
    if (item->status == KV_OK) {
        const uint8_t *value = (const uint8_t *)(uintptr_t)item->value;

        memcpy(&number, value, sizeof(number));
        if (number == 0 || number > self->work.numbers ||
            item->result_size != workload_value_size(number))
            return "a value that never was";
        workload_value(number, self->expected);
        if (memcmp(self->expected, value, item->result_size) != 0)
            return "wrong bytes";
    }
    return workload_judge(&self->work, self->cut, self->power, key, number);
}

static const char *values_judge(trial *self, kv_store *store, char *said)
{
    kv_item items[WORKLOAD_KEYS] = {{0}};
    char names[WORKLOAD_KEYS][16];
    kv_request request = {.items = items, .count = WORKLOAD_KEYS, .operation = KV_OP_GET};

    for (uint32_t key = 0; key < WORKLOAD_KEYS; key++) {
        workload_key(key, names[key]);
        items[key] = (kv_item){
            .key = (uintptr_t)names[key],
            .key_size = (uint32_t)strlen(names[key]),
            .value = (uintptr_t)(self->values + (size_t)key * WORKLOAD_VALUE_SIZE_MAX),
            .value_size = WORKLOAD_VALUE_SIZE_MAX};
    }
    assert(kv_store_run(store, &request) == 0);
    for (uint32_t key = 0; key < WORKLOAD_KEYS; key++) {
        const char *wrong = value_judge(self, key, &items[key]);

        if (wrong) {
            snprintf(said, KV_MESSAGE_SIZE, "%s, status %d", names[key], (int)items[key].status);
            return wrong;
        }
    }
    return NULL;
}

/* What was recovered goes on: an update, a clean end, and all is there again. */
static const char *use(trial *self, const kv_store_options *store_options, kv_store **store,
                       char *said)
{
    uint8_t byte = 1;
    kv_item item = {.key = (uintptr_t) "later", .key_size = 5, .value = (uintptr_t)&byte,
                    .value_size = 1};
    kv_request request = {.items = &item, .count = 1, .operation = KV_OP_SET};

    assert(kv_store_run(*store, &request) == 0);
    if (item.status != KV_OK)
        return "an update is refused after recovery";
    if (kv_store_close(*store, CLOSE_MS) < 0) {
        *store = NULL;
        return "it does not close after recovery";
    }
    *store = NULL;
    if (kv_store_open(store_options, store, said) < 0)
        return "it does not open again after a clean end";
    return values_judge(self, *store, said);
}

static const char *recover(trial *self, bool uses, char *said)
{
    kv_store_options store_options =
        workload_options(self->directory, self->work.durability, KV_DRIVER_THREADS);
    kv_store *store = NULL;
    const char *wrong;

    store_options.depth = RECOVERY_DEPTH;
    said[0] = 0;
    record_set_boot(self->power ? 2 : 1);
    image_now = &self->image;
    record_replay(self->directory, changed);
    if (kv_store_open(&store_options, &store, said) < 0) {
        store = NULL;
        wrong = "the store does not open";
    } else {
        wrong = values_judge(self, store, said);
        if (!wrong && uses)
            wrong = use(self, &store_options, &store, said);
    }
    if (store)
        kv_store_close(store, CLOSE_MS);
    record_stop();
    return wrong;
}

/* NULL: as promised. */
static const char *image_try(trial *self, kv_random *random)
{
    static const char *const styles[] = {"nothing", "all", "a prefix", "all but one", "one",
                                         "some writes", "some sectors", "a torn one"};
    kv_random before;
    char said[KV_MESSAGE_SIZE];
    const char *wrong;
    bool uses;

    self->power = !kv_random_one_in(random, ONE_KILL_IN);
    self->style = (image_style)kv_random_below(random, IMAGE_STYLES);
    uses = kv_random_one_in(random, ONE_USED_IN);
    before = *random;
    image_build(&self->image, self->cut, self->power, self->style, random);
    self->images++;
    self->kills += !self->power;
    wrong = recover(self, uses, said);
    image_restore(&self->image);
    if (!wrong)
        return NULL;
    fprintf(stderr, "%s, behind event %u, with %s of what was not durable: %s: %s\n",
            self->power ? "power cut" : "kill", self->cut, styles[self->style], wrong, said);
    /* As recovery found it. */
    image_build(&self->image, self->cut, self->power, self->style, &before);
    return wrong;
}

/* ---- all of them ---- */

/* Walk through the record, again and again, and stop at some cuts of each walk. */
static const char *cuts_try(trial *self, const options *given)
{
    const record_log *log = &self->work.record;
    double end = clock_s(CLOCK_MONOTONIC) + given->seconds;
    const char *wrong = NULL;
    kv_random random;

    kv_random_init(&random, given->seed);
    while (!wrong && clock_s(CLOCK_MONOTONIC) < end) {
        image_rewind(&self->image);
        for (uint32_t at = 0; at < log->count && !wrong && clock_s(CLOCK_MONOTONIC) < end; at++) {
            if (!image_step(&self->image, at) || !kv_random_one_in(&random, ONE_CUT_IN))
                continue;
            image_restore(&self->image);
            self->cut = at;
            self->covered[at] = 1;
            wrong = image_try(self, &random);
        }
    }
    return wrong;
}

static void plant(trial *self, const char *name)
{
    if (strcmp(name, "directory") == 0) {
        self->image.forget = RECORD_DIRECTORY;
        return;
    }
    self->image.forget = RECORD_FLUSH;
    self->image.forget_file = strcmp(name, "slabs") == 0 ? KV_FILE_SLABS : KV_FILE_JOURNAL_0;
}

static void report(const trial *self, const options *given, double began_s, double began_cpu_s)
{
    uint32_t covered = 0, cuts = 0;

    for (uint32_t i = 0; i < self->work.record.count; i++) {
        cuts += self->work.record.events[i].kind != RECORD_DONE ||
                self->work.record.events[i].result >= 0;
        covered += self->covered[i];
    }
    printf("%s, %s: %u system calls and marks recorded, %u of %u cuts tried, %llu images (%llu of "
           "kills), %.0f images/s, %.0f a CPU second\n",
           given->driver == KV_DRIVER_THREADS ? "threads" : "io_uring",
           given->durability == KV_DURABILITY_SYNC ? "sync" : "disk", self->work.record.count,
           covered, cuts, (unsigned long long)self->images, (unsigned long long)self->kills,
           (double)self->images / (clock_s(CLOCK_MONOTONIC) - began_s),
           (double)self->images / (clock_s(CLOCK_PROCESS_CPUTIME_ID) - began_cpu_s));
}

static int trial_run(const options *given)
{
    trial *self = calloc(1, sizeof(*self));
    const char *wrong;
    double began_s, began_cpu_s;

    assert(self != NULL);
    self->directory = given->images;
    if (mkdir(given->store, DIRECTORY_MODE) < 0 || mkdir(given->images, DIRECTORY_MODE) < 0) {
        perror("the directories cannot be made");
        free(self);
        return 2;
    }
    workload_run(&self->work, given->store, given->seed, given->operations, given->durability,
                 given->driver);
    self->values = malloc((size_t)WORKLOAD_KEYS * WORKLOAD_VALUE_SIZE_MAX);
    self->expected = malloc(WORKLOAD_VALUE_SIZE_MAX);
    self->covered = calloc(1, self->work.record.count + 1);
    assert(self->values && self->expected && self->covered);
    image_open(&self->image, &self->work.record, self->directory);
    if (given->plant)
        plant(self, given->plant);
    began_s = clock_s(CLOCK_MONOTONIC);
    began_cpu_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    wrong = cuts_try(self, given);
    report(self, given, began_s, began_cpu_s);
    if (wrong && !given->plant)
        printf("the image is kept in %s\n", self->directory);
    if (!wrong && given->plant)
        printf("flushes of %s were left out, and nothing was noticed\n", given->plant);
    image_close(&self->image);
    workload_free(&self->work);
    free(self->values);
    free(self->expected);
    free(self->covered);
    free(self);
    return (wrong != NULL) != (given->plant != NULL);
}

static int usage(void)
{
    fprintf(stderr, "usage: crash --store S --images I [--seconds S] [--seed N]\n"
                    "             [--operations N] [--driver threads|io_uring]\n"
                    "             [--durability disk|sync] [--plant journal|slabs|directory]\n");
    return 2;
}

int main(int count, char **arguments)
{
    options given = {.seconds = SECONDS_DEFAULT,
                     .seed = 1,
                     .operations = OPERATIONS_DEFAULT,
                     .driver = KV_DRIVER_THREADS,
                     .durability = KV_DURABILITY_SYNC};

    for (int i = 1; i + 1 < count; i += 2) {
        const char *name = arguments[i], *value = arguments[i + 1];

        if (strcmp(name, "--seconds") == 0)
            given.seconds = strtod(value, NULL);
        else if (strcmp(name, "--seed") == 0)
            given.seed = strtoull(value, NULL, 10);
        else if (strcmp(name, "--operations") == 0)
            given.operations = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(name, "--driver") == 0)
            given.driver = strcmp(value, "threads") == 0 ? KV_DRIVER_THREADS : KV_DRIVER_URING;
        else if (strcmp(name, "--durability") == 0)
            given.durability = strcmp(value, "disk") == 0 ? KV_DURABILITY_DISK
                                                          : KV_DURABILITY_SYNC;
        else if (strcmp(name, "--store") == 0)
            given.store = value;
        else if (strcmp(name, "--images") == 0)
            given.images = value;
        else if (strcmp(name, "--plant") == 0)
            given.plant = value;
        else
            return usage();
    }
    if (!given.store || !given.images || count % 2 == 0)
        return usage();
    /* A store is opened for each image, and uses little of its memory. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    return trial_run(&given);
}
