/* Redis's protocol at the speed of C: MGET and pipelined SET.
 *
 *   reply to MGET     *64\r\n$4096\r\n | value | \r\n$4096\r\n | value | ... | \r\n
 *
 * The sizes of all values are known, so what lies between them is too: a reply is received with its
 * values right where they belong, and nothing is parsed, only compared.
 */

#include "stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    TEXT_SIZE_MAX = 64, /* of what comes before or after one key or value */
    NUMBER_SIZE_MAX = 32,
};

static const char ok[] = "+OK\r\n";
static const char key_length[] = "$32\r\n";

_Static_assert((int)KEY_SIZE == 32, "as in the text");

/* The texts of a batch, one after another. Those from *start* on are in no vector yet. */
struct text {
    size_t size, start;
    char bytes[BATCH_COUNT_MAX * (TEXT_SIZE_MAX + KEY_SIZE)];
};

static void put(struct text *text, const char *bytes, size_t size)
{
    memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
}

static void put_text(struct text *text, const char *string)
{
    put(text, string, strlen(string));
}

/* Writes *before*, a number, and the end of the line. */
static void number_line(char *line, const char *before, size_t number)
{
    snprintf(line, NUMBER_SIZE_MAX, "%s%zu\r\n", before, number);
}

static void put_key(struct text *text, const struct batch *batch, unsigned i)
{
    put(text, key_length, sizeof key_length - 1);
    put(text, batch->keys + (size_t)i * KEY_SIZE, KEY_SIZE);
}

/* Returns what was put since the last time, as it lies in *bytes*. */
static struct iovec taken(struct text *text, char *bytes)
{
    struct iovec vector = {.iov_base = bytes + text->start, .iov_len = text->size - text->start};
    text->start = text->size;
    return vector;
}

static void send_get(int socket, const struct batch *batch)
{
    struct text text;
    char line[NUMBER_SIZE_MAX];
    text.size = text.start = 0;
    number_line(line, "*", batch->count + 1);
    put_text(&text, line);
    put_text(&text, "$4\r\nMGET\r\n");
    for (unsigned i = 0; i < batch->count; i++) {
        put_key(&text, batch, i);
        put(&text, "\r\n", 2);
    }
    struct iovec vector = taken(&text, text.bytes);
    wire_send(socket, &vector, 1);
}

static void receive(int socket, struct iovec *vectors, unsigned count, const struct text *expected,
                    const char *found)
{
    if (wire_receive(socket, vectors, count))
        fail("the connection ended");
    if (memcmp(expected->bytes, found, expected->size) != 0) {
        errno = EPROTO;
        fail("an unexpected reply");
    }
}

static void receive_get(int socket, const struct batch *batch, char *target)
{
    struct text expected;
    char found[sizeof expected.bytes];
    char line[NUMBER_SIZE_MAX];
    struct iovec vectors[VECTOR_COUNT_MAX];
    unsigned used = 0;
    expected.size = expected.start = 0;
    number_line(line, "*", batch->count);
    put_text(&expected, line);
    number_line(line, "$", batch->value_size);
    for (unsigned i = 0; i < batch->count; i++) {
        put_text(&expected, line);
        vectors[used++] = taken(&expected, found);
        vectors[used++] = (struct iovec){target + i * batch->value_size, batch->value_size};
        put(&expected, "\r\n", 2);
    }
    vectors[used++] = taken(&expected, found);
    receive(socket, vectors, used, &expected, found);
}

static void set(int socket, const struct batch *batch, char *const *sources)
{
    struct text text, expected;
    char found[sizeof expected.bytes];
    char line[NUMBER_SIZE_MAX];
    struct iovec vectors[VECTOR_COUNT_MAX];
    unsigned used = 0;
    text.size = text.start = expected.size = expected.start = 0;
    number_line(line, "\r\n$", batch->value_size);
    for (unsigned i = 0; i < batch->count; i++) {
        put_text(&text, "*3\r\n$3\r\nSET\r\n");
        put_key(&text, batch, i);
        put_text(&text, line);
        vectors[used++] = taken(&text, text.bytes);
        vectors[used++] = (struct iovec){sources[i], batch->value_size};
        put(&text, "\r\n", 2);
        put(&expected, ok, sizeof ok - 1);
    }
    vectors[used++] = taken(&text, text.bytes);
    wire_send(socket, vectors, used);
    struct iovec vector = taken(&expected, found);
    receive(socket, &vector, 1, &expected, found);
}

const struct protocol resp_protocol = {"redis", send_get, receive_get, set};
