/* Streams over each driver: bytes come out as they went in, ends and errors are told once, and a
 * socket may be closed at any moment. */
#include "reactor_subject.h"

#include "bytes/random.h"

#define BIG (3u << 20)

/* ---- receive ---- */

static void a_receive_waits_for_bytes(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    uint8_t bytes[64];
    int descriptors[2];
    test_end end;

    tcp_pair_open(descriptors);
    end_open(&end, reactor, descriptors[0]);
    for (uint32_t i = 1; i <= 3; i++) {
        end_receive(&end, bytes, sizeof(bytes));
        (void)kv_reactor_turn(reactor, 0);
        assert(end.receives == i - 1);
        assert(write(descriptors[1], "hello", 5) == 5);
        turn_until(reactor, &end.receives, i);
        assert(end.received == 5 && memcmp(bytes, "hello", 5) == 0);
        assert(end.socket.received_bytes == 5 * i);
    }
    end_close(&end);
    close(descriptors[1]);
    kv_reactor_close(reactor);
}

static void bytes_that_wait_come_in_ranges_and_parts(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    uint8_t first[3];
    uint8_t second[4];
    struct iovec ranges[] = {{.iov_base = first, .iov_len = 3}, {.iov_base = second, .iov_len = 4}};
    int descriptors[2];
    test_end end;

    pair_open(descriptors);
    end_open(&end, reactor, descriptors[0]);
    assert(write(descriptors[1], "abcdefghij", 10) == 10);
    end.received = kv_socket_receive(&end.socket, ranges, 2);
    if (end.received == -EINPROGRESS)
        turn_until(reactor, &end.receives, 1);
    assert(end.received == 7);
    assert(memcmp(first, "abc", 3) == 0 && memcmp(second, "defg", 4) == 0);
    assert(end_receive_once(&end, first, 3) == 3 && memcmp(first, "hij", 3) == 0);
    end_close(&end);
    close(descriptors[1]);
    kv_reactor_close(reactor);
}

/* A short receive counts as drained; an end that came with the bytes must still be told. */
static void an_end_behind_bytes_is_told(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);

    for (uint32_t out_first = 0; out_first < 2; out_first++) {
        uint8_t bytes[64];
        int descriptors[2];
        test_end end;

        tcp_pair_open(descriptors);
        end_open(&end, reactor, descriptors[0]);
        if (out_first == 1) {
            end_receive(&end, bytes, sizeof(bytes));
            (void)kv_reactor_turn(reactor, 0);
        }
        assert(write(descriptors[1], "bye", 3) == 3);
        close(descriptors[1]);
        if (out_first == 0)
            end_receive(&end, bytes, sizeof(bytes));
        turn_until(reactor, &end.receives, 1);
        assert(end.received == 3);
        assert(end_receive_once(&end, bytes, sizeof(bytes)) == 0);
        assert(end_receive_once(&end, bytes, sizeof(bytes)) == 0);
        end_close(&end);
    }
    kv_reactor_close(reactor);
}

static void a_reset_is_an_error_of_receive_and_send(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    struct linger reset = {.l_onoff = 1};
    uint8_t bytes[8];
    int descriptors[2];
    test_end end;

    tcp_pair_open(descriptors);
    end_open(&end, reactor, descriptors[0]);
    end_receive(&end, bytes, sizeof(bytes));
    (void)kv_reactor_turn(reactor, 0);
    assert(setsockopt(descriptors[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
    close(descriptors[1]);
    turn_until(reactor, &end.receives, 1);
    assert(end.received == -ECONNRESET);
    /* Without a signal. */
    assert(end_send_once(&end, "x", 1) == -EPIPE);
    end_close(&end);
    kv_reactor_close(reactor);
}

/* ---- send ---- */

typedef struct test_stream {
    uint8_t *bytes;
    uint8_t *copy;
    uint64_t sent;
    uint64_t received;
} test_stream;

static void stream_open(test_stream *stream, uint64_t seed)
{
    kv_random random;

    *stream = (test_stream){.bytes = malloc(BIG), .copy = malloc(BIG)};
    assert(stream->bytes != NULL && stream->copy != NULL);
    kv_random_init(&random, seed);
    kv_random_fill(&random, stream->bytes, BIG);
}

static void stream_close(test_stream *stream)
{
    assert(memcmp(stream->bytes, stream->copy, BIG) == 0);
    free(stream->bytes);
    free(stream->copy);
}

/* Account for finished operations and start the next ones. */
static void stream_step(test_stream *stream, test_end *source, test_end *sink, uint32_t *sends,
                        uint32_t *receives)
{
    while (source->sends > *sends && stream->sent < BIG) {
        assert(source->sent > 0);
        *sends += 1;
        stream->sent += (uint64_t)source->sent;
        if (stream->sent < BIG)
            end_send(source, stream->bytes + stream->sent, BIG - stream->sent);
    }
    while (sink->receives > *receives && stream->received < BIG) {
        assert(sink->received > 0);
        *receives += 1;
        stream->received += (uint64_t)sink->received;
        if (stream->received < BIG)
            end_receive(sink, stream->copy + stream->received, BIG - stream->received);
    }
}

static void large_sends_and_receives_go_on_in_parts(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    int descriptors[2];
    test_end ends[2];
    test_stream streams[2];
    uint32_t sends[2] = {0, 0};
    uint32_t receives[2] = {0, 0};

    /* Both ways at once, so that each socket has a send and a receive out. */
    tcp_pair_open(descriptors);
    for (uint32_t i = 0; i < 2; i++) {
        stream_open(&streams[i], i);
        end_open(&ends[i], reactor, descriptors[i]);
    }
    for (uint32_t i = 0; i < 2; i++) {
        end_send(&ends[i], streams[i].bytes, BIG);
        end_receive(&ends[i], streams[1 - i].copy, BIG);
    }
    while (streams[0].received < BIG || streams[1].received < BIG) {
        for (uint32_t i = 0; i < 2; i++)
            stream_step(&streams[i], &ends[i], &ends[1 - i], &sends[i], &receives[1 - i]);
        if (streams[0].received < BIG || streams[1].received < BIG)
            (void)kv_reactor_turn(reactor, 0);
    }
    assert(ends[0].socket.sent_bytes + ends[1].socket.sent_bytes == 2 * BIG);
    assert(ends[0].socket.received_bytes + ends[1].socket.received_bytes == 2 * BIG);
    for (uint32_t i = 0; i < 2; i++) {
        end_close(&ends[i]);
        stream_close(&streams[i]);
    }
    kv_reactor_close(reactor);
}

static void all_ranges_of_the_most_are_sent(test_driver driver)
{
    static uint8_t bytes[KV_REACTOR_IOVEC_MAX];
    static uint8_t copy[KV_REACTOR_IOVEC_MAX];
    struct iovec ranges[KV_REACTOR_IOVEC_MAX];
    kv_reactor *reactor = open_reactor(driver);
    int descriptors[2];
    test_end end;

    pair_open(descriptors);
    end_open(&end, reactor, descriptors[0]);
    for (uint32_t i = 0; i < KV_REACTOR_IOVEC_MAX; i++) {
        bytes[i] = (uint8_t)(i * 7);
        ranges[i] = (struct iovec){.iov_base = &bytes[i], .iov_len = 1};
    }
    end.sent = kv_socket_send(&end.socket, ranges, KV_REACTOR_IOVEC_MAX);
    if (end.sent == -EINPROGRESS)
        turn_until(reactor, &end.sends, 1);
    assert(end.sent == sizeof(bytes));
    assert(read(descriptors[1], copy, sizeof(copy)) == sizeof(copy));
    assert(memcmp(bytes, copy, sizeof(copy)) == 0);
    end_close(&end);
    close(descriptors[1]);
    kv_reactor_close(reactor);
}

/* ---- close ---- */

static void close_then(test_end *end)
{
    assert(!end->socket.closing);
    kv_socket_close(&end->socket);
    assert(end->closes == 0);
}

/* With a send out that does not fit, and a receive. */
static void open_with_both_out(test_end *end, kv_reactor *reactor, int descriptor,
                               const uint8_t *big, uint8_t *byte)
{
    end_open(end, reactor, descriptor);
    end_send(end, big, BIG);
    if (end->sends > 0) {
        end->sends = 0;
        end_send(end, big, BIG);
    }
    end_receive(end, byte, 1);
    turn_idle(reactor);
    while (end->sends > 0) { /* a driver that tells of a part that fitted by a callback */
        end->sends = 0;
        end_send(end, big, BIG);
        turn_idle(reactor);
    }
    assert(end->sends == 0 && end->receives == 0);
}

static void what_is_out_is_cancelled_without_a_callback(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    uint8_t *big = calloc(1, BIG);
    uint8_t byte;
    int descriptors[2];
    test_end end;

    assert(big != NULL);
    tcp_pair_open(descriptors);
    open_with_both_out(&end, reactor, descriptors[0], big, &byte);
    end_close(&end);
    assert(end.sends == 0 && end.receives == 0);
    free(big);
    close(descriptors[1]);
    kv_reactor_close(reactor);
}

static void a_callback_may_close_with_the_other_direction_out(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    uint8_t *big = calloc(1, BIG);

    assert(big != NULL);
    for (uint32_t sending = 0; sending < 2; sending++) {
        uint8_t byte;
        int descriptors[2];
        test_end end;

        tcp_pair_open(descriptors);
        open_with_both_out(&end, reactor, descriptors[0], big, &byte);
        end.then = close_then;
        if (sending == 0)
            assert(write(descriptors[1], "x", 1) == 1);
        else
            close(descriptors[1]); /* an event of both directions */
        turn_until(reactor, &end.closes, 1);
        assert(end.receives + end.sends == 1);
        if (sending == 0)
            close(descriptors[1]);
    }
    free(big);
    kv_reactor_close(reactor);
}

static test_end *victim;

static void close_victim(test_end *end)
{
    (void)end;
    if (!victim->socket.closing)
        kv_socket_close(&victim->socket);
}

static void a_callback_may_close_another_that_has_an_event_too(test_driver driver)
{
    kv_reactor *reactor = open_reactor(driver);
    int descriptors[2][2];
    uint8_t bytes[2];
    test_end ends[2];

    for (uint32_t i = 0; i < 2; i++) {
        pair_open(descriptors[i]);
        end_open(&ends[i], reactor, descriptors[i][0]);
        end_receive(&ends[i], &bytes[i], 1);
    }
    (void)kv_reactor_turn(reactor, 0);
    victim = &ends[1];
    ends[0].then = close_victim;
    for (uint32_t i = 0; i < 2; i++)
        assert(write(descriptors[i][1], "x", 1) == 1);
    turn_until(reactor, &ends[0].receives, 1);
    turn_until(reactor, &ends[1].closes, 1);
    assert(ends[1].receives <= 1);
    end_close(&ends[0]);
    for (uint32_t i = 0; i < 2; i++)
        close(descriptors[i][1]);
    kv_reactor_close(reactor);
}

int main(void)
{
    static const test_rule rules[] = {
        a_receive_waits_for_bytes,
        bytes_that_wait_come_in_ranges_and_parts,
        an_end_behind_bytes_is_told,
        a_reset_is_an_error_of_receive_and_send,
        large_sends_and_receives_go_on_in_parts,
        all_ranges_of_the_most_are_sent,
        what_is_out_is_cancelled_without_a_callback,
        a_callback_may_close_with_the_other_direction_out,
        a_callback_may_close_another_that_has_an_event_too,
    };

    check_all(rules, sizeof(rules) / sizeof(rules[0]));
    return 0;
}
