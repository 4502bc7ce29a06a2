/* Many sockets on one reactor, over each driver: a crowd that all speak at once, a seeded echo in
 * parts of random sizes that signals interrupt all the time, and closings at random. */
#include "reactor_subject.h"

#include "bytes/random.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>

#define ECHOES 40u
#define ECHO_BYTES 200000u
#define ECHO_PART 70000u
#define CROWD 1000u /* pairs */
#define PAIRS 20u
#define PAIR_BYTES 100000u
#define PAIR_STEPS 6000u

/* ---- a crowd ---- */

static void two_thousand_sockets_are_served(test_driver driver)
{
    static test_end ends[2 * CROWD];
    static uint8_t bytes[2 * CROWD];
    kv_reactor *reactor = open_reactor(driver);

    for (uint32_t i = 0; i < 2 * CROWD; i += 2) {
        int descriptors[2];

        pair_open(descriptors);
        for (uint32_t k = 0; k < 2; k++) {
            end_open(&ends[i + k], reactor, descriptors[k]);
            end_receive(&ends[i + k], &bytes[i + k], 1);
        }
    }
    for (uint32_t i = 0; i < 2 * CROWD; i++) {
        static const uint8_t byte = 'x';

        end_send(&ends[i], &byte, 1);
    }
    for (uint32_t i = 0; i < 2 * CROWD; i++) {
        turn_until(reactor, &ends[i].receives, 1);
        turn_until(reactor, &ends[i].sends, 1);
        assert(bytes[i] == 'x');
    }
    for (uint32_t i = 0; i < 2 * CROWD; i++) {
        end_receive(&ends[i], &bytes[i], 1);
        kv_socket_close(&ends[i].socket);
    }
    for (uint32_t i = 0; i < 2 * CROWD; i++)
        turn_until(reactor, &ends[i].closes, 1);
    kv_reactor_close(reactor);
}

/* ---- the echo ---- */

/* One connection of the echo: what `source` sends in random parts comes back from `mirror`. */
typedef struct test_echo {
    test_end source;
    test_end mirror;
    kv_random random;
    uint8_t *bytes;
    uint8_t *returned;
    uint64_t sent;
    uint64_t received;
    uint8_t part[ECHO_PART]; /* the mirror's */
    uint64_t part_size;
    uint64_t part_sent;
    uint32_t seen[4]; /* counts of source sends and receives, mirror receives and sends */
} test_echo;

static uint64_t part_below(test_echo *echo, uint64_t rest)
{
    uint64_t bits = kv_random_below(&echo->random, 16);
    uint64_t size = 1 + (kv_random_next(&echo->random) >> (48 + bits));

    return size < rest ? size : rest;
}

static void echo_send(test_echo *echo)
{
    if (echo->sent < ECHO_BYTES)
        end_send(&echo->source, echo->bytes + echo->sent,
                 part_below(echo, ECHO_BYTES - echo->sent));
}

static void echo_receive(test_echo *echo)
{
    if (echo->received < ECHO_BYTES)
        end_receive(&echo->source, echo->returned + echo->received,
                    part_below(echo, ECHO_BYTES - echo->received));
}

static void echo_mirror(test_echo *echo)
{
    if (echo->part_sent < echo->part_size)
        end_send(&echo->mirror, echo->part + echo->part_sent, echo->part_size - echo->part_sent);
    else
        end_receive(&echo->mirror, echo->part, part_below(echo, ECHO_PART));
}

static bool seen(uint32_t *count, uint32_t now)
{
    if (*count == now)
        return false;
    *count = now;
    return true;
}

/* True while something went on without waiting. */
static bool echo_step(test_echo *echo)
{
    bool stepped = false;

    if (seen(&echo->seen[0], echo->source.sends)) {
        assert(echo->source.sent > 0);
        echo->sent += (uint64_t)echo->source.sent;
        echo_send(echo);
        stepped = true;
    }
    if (seen(&echo->seen[1], echo->source.receives)) {
        assert(echo->source.received > 0);
        echo->received += (uint64_t)echo->source.received;
        echo_receive(echo);
        stepped = true;
    }
    if (seen(&echo->seen[2], echo->mirror.receives)) {
        assert(echo->mirror.received > 0);
        echo->part_size = (uint64_t)echo->mirror.received;
        echo->part_sent = 0;
        echo_mirror(echo);
        stepped = true;
    }
    if (seen(&echo->seen[3], echo->mirror.sends)) {
        assert(echo->mirror.sent > 0);
        echo->part_sent += (uint64_t)echo->mirror.sent;
        echo_mirror(echo);
        stepped = true;
    }
    return stepped;
}

static void echo_open(test_echo *echo, kv_reactor *reactor, uint32_t number)
{
    int descriptors[2];

    memset(echo, 0, sizeof(*echo));
    kv_random_init(&echo->random, number);
    echo->bytes = malloc(ECHO_BYTES);
    echo->returned = calloc(1, ECHO_BYTES);
    assert(echo->bytes != NULL && echo->returned != NULL);
    kv_random_fill(&echo->random, echo->bytes, ECHO_BYTES);
    if (number % 2 == 0)
        pair_open(descriptors);
    else
        tcp_pair_open(descriptors);
    end_open(&echo->source, reactor, descriptors[0]);
    end_open(&echo->mirror, reactor, descriptors[1]);
    echo_send(echo);
    echo_receive(echo);
    echo_mirror(echo);
}

static void echo_close(test_echo *echo)
{
    assert(memcmp(echo->bytes, echo->returned, ECHO_BYTES) == 0);
    end_close(&echo->source);
    end_close(&echo->mirror);
    free(echo->bytes);
    free(echo->returned);
}

static void interrupted(int number)
{
    (void)number;
}

/* Signals without SA_RESTART come all the time: no call may take them for an error. */
static void every_byte_of_many_connections_is_echoed(test_driver driver)
{
    static test_echo echoes[ECHOES];
    static const struct itimerval often = {.it_interval.tv_usec = 300, .it_value.tv_usec = 300};
    static const struct itimerval never;
    struct sigaction action = {.sa_handler = interrupted};
    kv_reactor *reactor = open_reactor(driver);
    uint32_t done = 0;

    assert(sigaction(SIGALRM, &action, NULL) == 0);
    for (uint32_t i = 0; i < ECHOES; i++)
        echo_open(&echoes[i], reactor, i);
    assert(setitimer(ITIMER_REAL, &often, NULL) == 0);
    while (done < ECHOES) {
        bool stepped = false;

        done = 0;
        for (uint32_t i = 0; i < ECHOES; i++) {
            stepped |= echo_step(&echoes[i]);
            done += echoes[i].received == ECHO_BYTES;
        }
        if (done < ECHOES)
            (void)kv_reactor_turn(reactor, stepped ? 0 : KV_REACTOR_FOREVER);
    }
    assert(setitimer(ITIMER_REAL, &never, NULL) == 0);
    for (uint32_t i = 0; i < ECHOES; i++)
        echo_close(&echoes[i]);
    kv_reactor_close(reactor);
}

/* ---- closings ---- */

/* Both ends of a connection, and their memory, which is freed as soon as it may be. */
typedef struct test_pair {
    test_end ends[2];
    uint8_t memory[2][PAIR_BYTES];
} test_pair;

static void pair_step(test_pair *pair, kv_random *random)
{
    test_end *end = &pair->ends[kv_random_below(random, 2)];
    uint64_t size = 1 + kv_random_below(random, PAIR_BYTES);

    if (end->socket.closing)
        return;
    switch (kv_random_below(random, 8)) {
    case 0:
        kv_socket_close(&end->socket);
        break;
    case 1:
    case 2:
    case 3:
        if (end->receives == end->expected_receives) {
            end->expected_receives++;
            end_receive(end, pair->memory[0], size);
        }
        break;
    default:
        if (end->sends == end->expected_sends) {
            end->expected_sends++;
            end_send(end, pair->memory[1], size);
        }
        break;
    }
}

static test_pair *pair_make(kv_reactor *reactor, bool tcp)
{
    test_pair *pair = calloc(1, sizeof(*pair));
    int descriptors[2];

    assert(pair != NULL);
    if (tcp)
        tcp_pair_open(descriptors);
    else
        pair_open(descriptors);
    for (uint32_t i = 0; i < 2; i++)
        end_open(&pair->ends[i], reactor, descriptors[i]);
    return pair;
}

static void sockets_closed_at_any_moment_are_closed_once(test_driver driver)
{
    static test_pair *pairs[PAIRS];
    kv_reactor *reactor = open_reactor(driver);
    kv_random random;

    kv_random_init(&random, 5);
    for (uint32_t step = 0; step < PAIR_STEPS; step++) {
        test_pair **pair = &pairs[kv_random_below(&random, PAIRS)];

        if (*pair == NULL)
            *pair = pair_make(reactor, kv_random_one_in(&random, 2));
        else
            pair_step(*pair, &random);
        if ((*pair)->ends[0].closes + (*pair)->ends[1].closes == 2) {
            free(*pair);
            *pair = NULL;
        }
        if (kv_random_one_in(&random, 3))
            (void)kv_reactor_turn(reactor, 0);
    }
    for (uint32_t i = 0; i < PAIRS; i++) {
        for (uint32_t k = 0; pairs[i] != NULL && k < 2; k++) {
            if (!pairs[i]->ends[k].socket.closing)
                kv_socket_close(&pairs[i]->ends[k].socket);
            while (pairs[i]->ends[k].closes == 0)
                (void)kv_reactor_turn(reactor, KV_REACTOR_FOREVER);
        }
        free(pairs[i]);
        pairs[i] = NULL;
    }
    kv_reactor_close(reactor);
}

int main(void)
{
    static const test_rule rules[] = {
        two_thousand_sockets_are_served,
        every_byte_of_many_connections_is_echoed,
        sockets_closed_at_any_moment_are_closed_once,
    };
    struct rlimit limit;

    assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    check_all(rules, sizeof(rules) / sizeof(rules[0]));
    return 0;
}
