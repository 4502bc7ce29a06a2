/* Writes the corpora of fuzz_wire and fuzz_hello: make_corpus WIRE HELLO. For the wire, one request
 * and one reply of each operation, forwards, and one message of each other kind, drawn by a fixed seed, so that
 * the files change only with the wire. For hello, scripts of what may come of one. */

#include "wire_examples.h"

#include <stdio.h>
#include <stdlib.h>

#define PATH_SIZE_MAX 4096

/* Commands of fuzz_hello. */
#define GIVE(end) (0 + 8 * (end))
#define TAKE(which) (1 + 8 * (which))
#define FLIP(at, bits) 2, at, 0, bits
#define PLACE(at, byte) 3, at, byte
#define RESIZE(size) 4, (size)-4, 0
#define RELABEL(kind) 5, (kind)-1
#define DAMAGE 7
#define RUN TAKE(0), GIVE(1), GIVE(0), GIVE(1), GIVE(0)
#define SECRET_A 0x55

static const struct {
    const char *name;
    uint8_t size;
    uint8_t bytes[16];
} scripts[] = {
    {"agree", 6, {SECRET_A, RUN}},
    {"open", 6, {0, RUN}},
    {"wrong-secret", 6, {0x09, RUN}},
    {"two", 11, {SECRET_A, RUN, TAKE(1), GIVE(3), GIVE(2), GIVE(3), GIVE(2)}},
    {"replay", 10, {SECRET_A, RUN, TAKE(0), GIVE(3), TAKE(3), GIVE(3)}},
    {"versions", 10, {SECRET_A, TAKE(0), PLACE(4, 2), PLACE(5, 9), GIVE(1), GIVE(0)}},
    {"later", 11, {SECRET_A, TAKE(0), PLACE(5, 9), RESIZE(204), GIVE(1), GIVE(0), GIVE(1)}},
    {"order", 6, {SECRET_A, TAKE(0), RELABEL(3), GIVE(1), GIVE(0)}},
    {"cut", 6, {SECRET_A, TAKE(0), RESIZE(34), GIVE(1)}},
    {"damage", 8, {SECRET_A, TAKE(0), DAMAGE, FLIP(40, 1), GIVE(1)}},
};

static void file_write(const char *path, const uint8_t *input, size_t size)
{
    FILE *file = fopen(path, "wb");

    if (!file || fwrite(input, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static void example_write(const char *folder, const char *name, unsigned number,
                          const uint8_t *input, size_t size)
{
    char path[PATH_SIZE_MAX];

    snprintf(path, sizeof(path), "%s/%s-%u", folder, name, number);
    file_write(path, input, size);
}

static void scripts_write(const char *folder)
{
    char path[PATH_SIZE_MAX];

    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, scripts[i].name);
        file_write(path, scripts[i].bytes, scripts[i].size);
    }
}

int main(int count, char **arguments)
{
    uint8_t input[EXAMPLE_SIZE_MAX];
    kv_random random;

    if (count != 3) {
        fprintf(stderr, "usage: make_corpus WIRE HELLO\n");
        return 2;
    }
    scripts_write(arguments[2]);
    kv_random_init(&random, 1);
    for (uint32_t operation = KV_OP_SET; operation <= KV_OP_UNPIN; operation++) {
        size_t size = example_request(operation, &random, input);

        example_write(arguments[1], "request", operation, input, size);
        size = example_reply(operation, &random, input);
        example_write(arguments[1], "reply", operation, input, size);
    }
    for (uint8_t kind = KV_MESSAGE_HELLO; kind <= KV_MESSAGE_CONTROL_REPLY; kind++) {
        bool hello = kind <= KV_MESSAGE_REFUSAL, control = kind >= KV_MESSAGE_CONTROL;

        if (hello || kind == KV_MESSAGE_CANCEL || control)
            example_write(arguments[1], "other", kind, input,
                          example_other(kind, &random, input));
    }
    for (uint32_t shape = 0; shape < EXAMPLE_FORWARD_SHAPES; shape++)
        example_write(arguments[1], "forward", shape, input,
                      example_forward_shape(shape, &random, input));
    example_write(arguments[1], "forwarded", KV_OK, input,
                  example_forwarded(KV_OK, &random, input));
    example_write(arguments[1], "forwarded", KV_WRONG_TARGET, input,
                  example_forwarded(KV_WRONG_TARGET, &random, input));
    return 0;
}
