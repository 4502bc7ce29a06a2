/* What the core answered, as Python lists in the keys' order.
 *
 * Leaves to others: to call these only when the core is done with the items. */

#include "columns.h"

#include <assert.h>

/* Results, one for each key. */

typedef PyObject *(*item_reader)(const columns *self, Py_ssize_t index);

static PyObject *list_of(PyObject *object, item_reader read)
{
    columns *self = columns_held(object);
    PyObject *list = self == NULL ? NULL : PyList_New(self->count);

    for (Py_ssize_t i = 0; list != NULL && i < self->count; i++) {
        PyObject *entry = read(self, i);

        if (entry == NULL)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, i, entry);
    }
    return list;
}

static PyObject *read_status(const columns *self, Py_ssize_t index)
{
    return PyLong_FromLong(self->items[index].status);
}

PyObject *columns_statuses(PyObject *object, PyObject *unused)
{
    (void)unused;
    return list_of(object, read_status);
}

static PyObject *read_size(const columns *self, Py_ssize_t index)
{
    return PyLong_FromUnsignedLong(self->items[index].result_size);
}

PyObject *columns_sizes(PyObject *object, PyObject *unused)
{
    (void)unused;
    return list_of(object, read_size);
}

static PyObject *read_succeeded(const columns *self, Py_ssize_t index)
{
    return Py_NewRef(self->items[index].status == KV_OK ? Py_True : Py_False);
}

PyObject *columns_succeeded(PyObject *object, PyObject *unused)
{
    (void)unused;
    return list_of(object, read_succeeded);
}

static PyObject *read_written(const columns *self, Py_ssize_t index)
{
    switch (self->items[index].status) {
    case KV_OK:
        return PyLong_FromUnsignedLong(self->items[index].result_size);
    case KV_NOT_FOUND:
        return PyLong_FromLong(-1);
    case KV_BUFFER_TOO_SMALL:
        return PyLong_FromLong(-2);
    default:
        return PyLong_FromLong(-3);
    }
}

PyObject *columns_written(PyObject *object, PyObject *unused)
{
    (void)unused;
    return list_of(object, read_written);
}

static PyObject *read_stat(const columns *self, Py_ssize_t index)
{
    const kv_item *item = &self->items[index];
    const kv_item_stat *stat = &self->stats[index];

    if (item->status != KV_OK)
        Py_RETURN_NONE;
    return Py_BuildValue("IKKII", item->result_size, (unsigned long long)stat->version,
                         (unsigned long long)stat->expiry_ms, stat->checksum, stat->flags);
}

PyObject *columns_object_stats(PyObject *object, PyObject *unused)
{
    columns *self = columns_held(object);

    (void)unused;
    if (self != NULL && self->stats == NULL) {
        PyErr_SetString(PyExc_ValueError, "these Columns were given no room for stats");
        return NULL;
    }
    return list_of(object, read_stat);
}

/* Every key that is OK gets a bytes object of result_size, the target of the next get. */
PyObject *columns_allocate_results(PyObject *object, PyObject *unused)
{
    columns *self = columns_held(object);

    (void)unused;
    if (self == NULL)
        return NULL;
    if (self->values != NULL || self->results != NULL) {
        PyErr_SetString(PyExc_ValueError, "these Columns have their values already");
        return NULL;
    }
    self->results = PyMem_Calloc((size_t)self->count + 1, sizeof(PyObject *));
    if (self->results == NULL)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < self->count; i++) {
        kv_item *item = &self->items[i];

        if (item->status != KV_OK)
            continue;
        self->results[i] = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)item->result_size);
        if (self->results[i] == NULL)
            return NULL;
        columns_place_value(item, (uint64_t)(uintptr_t)PyBytes_AsString(self->results[i]),
                            item->result_size);
    }
    Py_RETURN_NONE;
}

static PyObject *read_value(const columns *self, Py_ssize_t index)
{
    const kv_item *item = &self->items[index];
    PyObject *result = self->results[index];

    if (item->status != KV_OK)
        Py_RETURN_NONE;
    if (result == NULL) /* appeared after the stat: its size was 0, or it would not have fitted */
        return PyBytes_FromStringAndSize(NULL, 0);
    assert(item->result_size <= item->value_size);
    if (item->result_size == item->value_size)
        return Py_NewRef(result);
    return PyBytes_FromStringAndSize(PyBytes_AsString(result), (Py_ssize_t)item->result_size);
}

PyObject *columns_values(PyObject *object, PyObject *unused)
{
    columns *self = columns_held(object);

    (void)unused;
    if (self != NULL && self->results == NULL) {
        PyErr_SetString(PyExc_ValueError, "allocate_results() comes before values()");
        return NULL;
    }
    return list_of(object, read_value);
}
