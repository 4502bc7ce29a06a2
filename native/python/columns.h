/* kvstore._columns: the keys and values of one batch, from Python sequences to an array of kv_item.
 *
 *      keys    ( b"a",  "b",  b"c" )          items   [ key | value | key_size | value_size | ... ]
 *      values  ( array, bytes, (addr, n) )  ───►      one kv_item a key, in the caller's order
 *
 * Guarantees: while a Columns is neither released nor freed, every address in its items stays
 * valid: it owns a reference to each key and value, and holds each exported buffer, so a bytearray
 * cannot be resized meanwhile. A bad argument raises an error that names the argument and the
 * index, and leaves nothing exported.
 * Leaves to others: what becomes of the items (kvstore.native.store), and not to release while the
 * core uses them. An (address, length) pair is the caller's promise alone: it cannot be checked. */

#ifndef KV_PYTHON_COLUMNS_H
#define KV_PYTHON_COLUMNS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "kvcore.h"

#include <stdbool.h>

typedef struct columns {
    PyObject_HEAD Py_ssize_t count;
    kv_request request; /* of these items; the rest of it is the owner's to fill in */
    kv_item *items;
    kv_item_stat *stats; /* NULL until stat_address is asked for */
    PyObject *keys;      /* tuple of bytes and str: ours, whatever becomes of the caller's list */
    PyObject *values;    /* tuple, or NULL when keys come alone */
    PyObject **results;  /* bytes objects that a get fills; NULL before allocate_results() */
    Py_buffer *views;    /* exported buffers, in no particular relation to items */
    Py_ssize_t view_count;
    bool writable; /* values are the targets of a get */
    bool released;
} columns;

/* The object as a columns, or NULL with ValueError when it was released. */
columns *columns_held(PyObject *object);

/* arguments.c: take what the caller passed. 0, or -1 with an error set. */
int columns_take_arguments(columns *self, PyObject *keys, PyObject *values);

/* Points an item at its value. Sizes beyond 32 bits are far above the value limit: the core answers
 * KV_TOO_LARGE for what is kept of them. */
static inline void columns_place_value(kv_item *item, uint64_t address, uint64_t size)
{
    item->value = address;
    item->value_size = size > UINT32_MAX ? UINT32_MAX : (uint32_t)size;
}

/* results.c: the methods that read what the core answered, each in the keys' order. */
PyObject *columns_statuses(PyObject *object, PyObject *unused);
PyObject *columns_sizes(PyObject *object, PyObject *unused);
PyObject *columns_succeeded(PyObject *object, PyObject *unused);
PyObject *columns_written(PyObject *object, PyObject *unused);
PyObject *columns_object_stats(PyObject *object, PyObject *unused);
PyObject *columns_largest(PyObject *object, PyObject *unused);
PyObject *columns_allocate_results(PyObject *object, PyObject *args);
PyObject *columns_values(PyObject *object, PyObject *unused);

#endif
