/* What the two programs beside this file share: frames of the ideal TCP peer, and whole transfers.
 *
 *   request   header 32 | columns 60 + 10 a key | keys 32 each | of a set: values
 *   reply     header 32 | columns 16 a key      | of a get: values
 *
 * Frames have the sizes of this project's own, so that ratios compare stores and not headers. What
 * a column holds beyond the slot of a value is zero: nothing looks at it.
 * Guarantees: a transfer is whole, or the program ends with a sentence on its standard error.
 */

#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum {
    KEY_SIZE = 32,
    BATCH_COUNT_MAX = 128,
    COLUMNS_SIZE = 60,
    REQUEST_COLUMN_SIZE = 10,
    REPLY_COLUMN_SIZE = 16,
    VECTOR_COUNT_MAX = 2 * BATCH_COUNT_MAX + 1,
    TIMEOUT_S = 60, /* no batch takes so long: whoever waits this long waits for ever */
};

enum wire_kind { WIRE_GET = 1, WIRE_SET = 2 };

/* The header of requests and of replies. */
struct wire_header {
    uint32_t kind;
    uint32_t count;
    uint64_t value_size;
    uint64_t reserved[2];
};

/* The part of a request's columns that one key has: where its value lies. */
struct __attribute__((packed)) wire_column {
    uint64_t slot;
    uint16_t reserved;
};

_Static_assert(sizeof(struct wire_header) == 32, "as in the drawing");
_Static_assert(sizeof(struct wire_column) == REQUEST_COLUMN_SIZE, "as in the drawing");

enum {
    REQUEST_SIZE_MAX = 32 + COLUMNS_SIZE + BATCH_COUNT_MAX * (REQUEST_COLUMN_SIZE + KEY_SIZE),
    REPLY_SIZE_MAX = 32 + BATCH_COUNT_MAX * REPLY_COLUMN_SIZE,
};

static inline size_t request_size(unsigned count)
{
    return sizeof(struct wire_header) + COLUMNS_SIZE
           + (size_t)count * (REQUEST_COLUMN_SIZE + KEY_SIZE);
}

static inline size_t reply_size(unsigned count)
{
    return sizeof(struct wire_header) + (size_t)count * REPLY_COLUMN_SIZE;
}

/* Ends the program with a sentence. */
_Noreturn void fail(const char *what);

/* Returns memory of this process in huge pages where there are some, touched once. */
char *wire_memory(size_t size);

/* Has a socket send at once, and waits to send end. The sizes of its buffers stay the kernel's: any
 * fixed ones measured slower than those that it tunes itself. */
void wire_tune(int socket);

/* Sends all of the vectors, which are used up. */
void wire_send(int socket, struct iovec *vectors, unsigned count);

/* Fills all of the vectors, which are used up. Returns 0, or -1 where the other end closed the
 * connection before the first byte. */
int wire_receive(int socket, struct iovec *vectors, unsigned count);

#endif
