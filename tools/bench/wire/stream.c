/* A contestant at the speed of C: batches over one connection, driven by commands.
 *
 *   stream ideal|redis
 *
 * It takes the commands that tools/bench/worker.py takes, a JSON object a line, and answers as it
 * does; of the commands it knows open, prepare, set, verify, and all that begin with get. Its
 * windows are those of tools/bench/pages.py: value i is the source window's page (i * 7) % pages,
 * batch j is read into part j % parts of the target window.
 * Guarantees: only transfers are on the clock; a value that comes back wrong ends the program.
 */

#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

enum {
    WINDOW_SIZE = 64 << 20,
    STRIDE = 7,
    EDGE = 64,
    LINE_SIZE_MAX = 4096,
    DEPTH_MAX = 64,
    LATENCY_COUNT_MAX = 1 << 20,
    WALL_FACTOR = 4,
    POISON = 0xee,
};

struct client {
    const struct protocol *protocol;
    int socket;
    size_t value_size;
    unsigned batch_count, count, pages;
    unsigned arranged;  /* keys that the phase goes round */
    unsigned set_count; /* keys from the first on that have a value */
    char *source, *target, *keys;
    uint32_t *order;
    /* The phase that runs. */
    uint64_t batches;
    double seconds, cpu_s;
    double *latencies;
};

static double clock_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Returns the number after a name of the command, or 0 where it is not given. */
static double field(const char *line, const char *name)
{
    const char *at = strstr(line, name);
    at = at == NULL ? NULL : strchr(at, ':');
    return at == NULL ? 0 : strtod(at + 1, NULL);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static char *source_of(const struct client *client, uint32_t slot)
{
    return client->source + (size_t)slot * STRIDE % client->pages * client->value_size;
}

static void open_connection(struct client *client, const char *line)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)field(line, "\"port\"")),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct timeval limit = {.tv_sec = TIMEOUT_S};
    client->socket = socket(AF_INET, SOCK_STREAM, 0);
    if (client->socket < 0)
        fail("socket");
    wire_tune(client->socket);
    if (setsockopt(client->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit))
        fail("setsockopt");
    if (connect(client->socket, (struct sockaddr *)&address, sizeof address))
        fail("connect");
}

static void prepare(struct client *client, const char *line)
{
    uint64_t random = 1;
    client->value_size = (size_t)field(line, "\"size\"");
    client->batch_count = (unsigned)field(line, "\"batch_count\"");
    client->count = (unsigned)field(line, "\"count\"") / client->batch_count * client->batch_count;
    if (client->value_size < sizeof random || client->count == 0
        || client->batch_count > BATCH_COUNT_MAX)
        fail("prepare");
    client->pages = (unsigned)(WINDOW_SIZE / client->value_size);
    client->set_count = 0;
    if (client->source == NULL) {
        client->source = wire_memory(WINDOW_SIZE);
        client->target = wire_memory(WINDOW_SIZE);
        client->latencies = calloc(LATENCY_COUNT_MAX, sizeof *client->latencies);
    }
    for (size_t at = 0; at < WINDOW_SIZE; at += sizeof random) {
        uint64_t word = next_random(&random);
        memcpy(client->source + at, &word, sizeof word);
    }
    free(client->order);
    free(client->keys);
    client->order = calloc(client->count, sizeof *client->order);
    client->keys = calloc(client->count, KEY_SIZE + 1);
    if (client->order == NULL || client->keys == NULL || client->latencies == NULL)
        fail("calloc");
}

/* Lays the first *count* keys in a new order, so that a batch has its own side by side. Seed 0
 * leaves them in their own. */
static void arrange(struct client *client, uint32_t count, uint64_t seed)
{
    for (uint32_t i = 0; i < count; i++)
        client->order[i] = i;
    for (uint32_t i = count; seed != 0 && i > 1; i--) {
        uint32_t other = (uint32_t)(next_random(&seed) % i);
        uint32_t slot = client->order[i - 1];
        client->order[i - 1] = client->order[other];
        client->order[other] = slot;
    }
    for (uint32_t i = 0; i < count; i++)
        snprintf(client->keys + (size_t)i * KEY_SIZE, KEY_SIZE + 1, "%08zx-%023u",
                 client->value_size, client->order[i]);
}

static struct batch batch_at(const struct client *client, uint64_t number)
{
    size_t first = number % (client->arranged / client->batch_count) * client->batch_count;
    return (struct batch){
        .count = client->batch_count,
        .value_size = client->value_size,
        .slots = client->order + first,
        .keys = client->keys + first * KEY_SIZE,
    };
}

static char *target_of(const struct client *client, uint64_t number)
{
    size_t size = client->batch_count * client->value_size;
    return client->target + number % (WINDOW_SIZE / size) * size;
}

/* Compares the values of a batch: at their edges, or whole. */
static void check(const struct client *client, uint64_t number, bool whole)
{
    struct batch batch = batch_at(client, number);
    size_t edge = whole || batch.value_size < EDGE ? batch.value_size : EDGE;
    size_t last = batch.value_size - edge;
    errno = 0;
    for (unsigned i = 0; i < batch.count; i++) {
        const char *target = target_of(client, number) + i * batch.value_size;
        const char *source = source_of(client, batch.slots[i]);
        if (memcmp(target, source, edge) || memcmp(target + last, source + last, edge))
            fail("a value came back wrong");
    }
}

static void record(struct client *client, double latency)
{
    client->latencies[client->batches % LATENCY_COUNT_MAX] = latency;
    client->batches++;
}

static void begin(struct client *client, uint32_t count, uint64_t seed)
{
    errno = EINVAL;
    if (count == 0)
        fail("no keys");
    client->arranged = count;
    arrange(client, count, seed);
    client->batches = 0;
    client->seconds = client->cpu_s = 0;
}

static void set_batch(struct client *client, uint64_t number)
{
    struct batch batch = batch_at(client, number);
    char *sources[BATCH_COUNT_MAX];
    for (unsigned i = 0; i < batch.count; i++)
        sources[i] = source_of(client, batch.slots[i]);
    client->protocol->set(client->socket, &batch, sources);
}

static void get_batch(struct client *client, uint64_t number)
{
    struct batch batch = batch_at(client, number);
    client->protocol->send_get(client->socket, &batch);
    client->protocol->receive_get(client->socket, &batch, target_of(client, number));
}

/* Performs one batch on the clock. */
static void timed(struct client *client, void (*perform)(struct client *, uint64_t))
{
    double cpu_before = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    double before = clock_of(CLOCK_MONOTONIC);
    perform(client, client->batches);
    double latency = clock_of(CLOCK_MONOTONIC) - before;
    client->cpu_s += clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_before;
    client->seconds += latency;
    record(client, latency);
}

static void set_all(struct client *client, double limit_s)
{
    begin(client, client->count, 0);
    do
        timed(client, set_batch);
    while (client->seconds < limit_s && client->batches < client->count / client->batch_count);
    unsigned set_count = (unsigned)client->batches * client->batch_count;
    if (set_count > client->set_count)
        client->set_count = set_count;
}

static void get_one_by_one(struct client *client, double limit_s)
{
    double end = clock_of(CLOCK_MONOTONIC) + limit_s * WALL_FACTOR;
    do {
        timed(client, get_batch);
        check(client, client->batches - 1, false);
    } while (client->seconds < limit_s && clock_of(CLOCK_MONOTONIC) < end);
}

/* Keeps *depth* batches in flight until the limit, and receives them all; what the target window
 * then holds is checked. */
static void get_pipelined(struct client *client, double limit_s, unsigned depth)
{
    double sent_at[DEPTH_MAX];
    uint64_t sent = 0;
    uint64_t parts = WINDOW_SIZE / (client->batch_count * client->value_size);
    double cpu_before = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    double before = clock_of(CLOCK_MONOTONIC);
    double now = before;
    if (depth > DEPTH_MAX || depth > parts)
        fail("depth");
    while (now < before + limit_s || client->batches < sent) {
        for (; now < before + limit_s && sent < client->batches + depth; sent++) {
            struct batch batch = batch_at(client, sent);
            sent_at[sent % depth] = now;
            client->protocol->send_get(client->socket, &batch);
        }
        struct batch batch = batch_at(client, client->batches);
        client->protocol->receive_get(client->socket, &batch,
                                      target_of(client, client->batches));
        now = clock_of(CLOCK_MONOTONIC);
        record(client, now - sent_at[client->batches % depth]);
    }
    client->seconds = now - before;
    client->cpu_s = clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_before;
    for (uint64_t i = client->batches > parts ? client->batches - parts : 0; i < client->batches;
         i++)
        check(client, i, false);
}

static void verify(struct client *client)
{
    begin(client, client->set_count, 1);
    for (uint64_t i = 0; i < client->set_count / client->batch_count; i++) {
        memset(target_of(client, i), POISON, client->batch_count * client->value_size);
        get_batch(client, i);
        check(client, i, true);
    }
}

static int compare(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

static void print_timing(struct client *client)
{
    size_t count = client->batches < LATENCY_COUNT_MAX ? client->batches : LATENCY_COUNT_MAX;
    qsort(client->latencies, count, sizeof *client->latencies, compare);
    printf("{\"answer\": {\"amount\": %zu, \"seconds\": %.9f, \"cpu_s\": %.9f, "
           "\"p50_ms\": %.6f, \"p99_ms\": %.6f}}\n",
           client->batches * client->batch_count * client->value_size, client->seconds,
           client->cpu_s, client->latencies[count / 2] * 1e3,
           client->latencies[(size_t)((double)count * 0.99)] * 1e3);
}

static void get(struct client *client, const char *line)
{
    unsigned depth = (unsigned)field(line, "\"depth\"");
    double limit_s = field(line, "\"limit_s\"");
    unsigned batch_count = client->batch_count;
    if (strstr(line, "\"get_single\""))
        client->batch_count = 1;
    begin(client, client->set_count, (uint64_t)field(line, "\"seed\"") + 1);
    if (depth > 1)
        get_pipelined(client, limit_s, depth);
    else
        get_one_by_one(client, limit_s);
    print_timing(client);
    client->batch_count = batch_count;
}

static void perform(struct client *client, const char *line)
{
    if (strstr(line, "\"command\": \"set\"")) {
        set_all(client, field(line, "\"limit_s\""));
        print_timing(client);
    } else if (strstr(line, "\"command\": \"get")) {
        get(client, line);
    } else {
        if (strstr(line, "\"command\": \"open\""))
            open_connection(client, line);
        else if (strstr(line, "\"command\": \"prepare\""))
            prepare(client, line);
        else if (strstr(line, "\"command\": \"verify\""))
            verify(client);
        else if (strstr(line, "register") == NULL) /* it takes memory as it comes */
            fail(line);
        printf("{\"answer\": {}}\n");
    }
    fflush(stdout);
}

int main(int count, char **arguments)
{
    static struct client client;
    static char line[LINE_SIZE_MAX];
    const struct protocol *protocols[] = {&ideal_protocol, &resp_protocol};
    for (size_t i = 0; count == 2 && i < sizeof protocols / sizeof *protocols; i++)
        if (strcmp(arguments[1], protocols[i]->name) == 0)
            client.protocol = protocols[i];
    if (client.protocol == NULL)
        fail("stream ideal|redis");
    while (fgets(line, sizeof line, stdin) != NULL)
        perform(&client, line);
    return 0;
}
