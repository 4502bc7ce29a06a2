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

static bool reads_alike(const kv_item *item, const kv_item *other)
{
    return item->status == other->status && item->result_size == other->result_size;
}

/* Values of a batch are mostly of one size: neighbours that read alike share one int. */
PyObject *columns_written(PyObject *object, PyObject *unused)
{
    columns *self = columns_held(object);
    PyObject *list = self == NULL ? NULL : PyList_New(self->count);
    PyObject *entry = NULL; /* the list's */

    (void)unused;
    for (Py_ssize_t i = 0; list != NULL && i < self->count; i++) {
        bool again = i > 0 && reads_alike(&self->items[i], &self->items[i - 1]);

        entry = again ? Py_NewRef(entry) : read_written(self, i);
        if (entry == NULL)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, i, entry);
    }
    return list;
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

PyObject *columns_largest(PyObject *object, PyObject *unused)
{
    columns *self = columns_held(object);
    uint32_t largest = 0;

    (void)unused;
    if (self == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        const kv_item *item = &self->items[i];

        if ((item->status == KV_OK || item->status == KV_BUFFER_TOO_SMALL) &&
            item->result_size > largest)
            largest = item->result_size;
    }
    return PyLong_FromUnsignedLong(largest);
}

/* Fresh bytes objects as the targets of a get. */

/* Item `index` gets a bytes object of `size` bytes. */
static int allocate_result(columns *self, Py_ssize_t index, uint32_t size)
{
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);

    if (result == NULL)
        return -1;
    self->results[index] = result;
    columns_place_value(&self->items[index], (uint64_t)(uintptr_t)PyBytes_AsString(result), size);
    return 0;
}

/* The room that item `index` is to have by `sizes`: one int for all, or a list of one for each. */
static int room_of(PyObject *sizes, Py_ssize_t index, uint32_t *room)
{
    PyObject *number = PyList_Check(sizes) ? PyList_GetItem(sizes, index) : sizes; /* borrowed */
    unsigned long size = number == NULL ? 0 : PyLong_AsUnsignedLong(number);

    if (PyErr_Occurred())
        return -1;
    *room = size > KV_VALUE_SIZE_LIMIT ? KV_VALUE_SIZE_LIMIT : (uint32_t)size;
    return 0;
}

static int allocate_all(columns *self, PyObject *sizes)
{
    for (Py_ssize_t i = 0; i < self->count; i++) {
        uint32_t room = self->items[i].result_size;

        if (sizes == Py_None && self->items[i].status != KV_OK)
            continue;
        if (sizes != Py_None && room_of(sizes, i, &room) < 0)
            return -1;
        if (allocate_result(self, i, room) < 0)
            return -1;
    }
    return 0;
}

/* Without sizes, every key that is OK gets a bytes object of its result_size. */
PyObject *columns_allocate_results(PyObject *object, PyObject *args)
{
    columns *self = columns_held(object);
    PyObject *sizes = Py_None;

    if (self == NULL || !PyArg_ParseTuple(args, "|O:allocate_results", &sizes))
        return NULL;
    if (self->values != NULL || self->results != NULL) {
        PyErr_SetString(PyExc_ValueError, "these Columns have their values already");
        return NULL;
    }
    if (PyList_Check(sizes) && PyList_Size(sizes) != self->count) {
        PyErr_Format(PyExc_ValueError, "%zd keys but %zd sizes", self->count, PyList_Size(sizes));
        return NULL;
    }
    self->results = PyMem_Calloc((size_t)self->count + 1, sizeof(PyObject *));
    if (self->results == NULL)
        return PyErr_NoMemory();
    if (allocate_all(self, sizes) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* The value of an item as a bytes object of exactly its size: the result itself, or where the room
 * was larger a copy, since a bytes object cannot shrink through the stable ABI. */
static PyObject *take_value(const columns *self, Py_ssize_t index)
{
    const kv_item *item = &self->items[index];
    PyObject *result = self->results[index];

    if (item->status != KV_OK)
        Py_RETURN_NONE;
    if (result == NULL) /* appeared after the stat: its size was 0, or it would not have fitted */
        return PyBytes_FromStringAndSize(NULL, 0);
    assert(item->result_size <= item->value_size);
    if (item->result_size < item->value_size)
        return PyBytes_FromStringAndSize(PyBytes_AsString(result), (Py_ssize_t)item->result_size);
    return Py_NewRef(result);
}

PyObject *columns_values(PyObject *object, PyObject *unused)
{
    columns *self = columns_held(object);

    (void)unused;
    if (self != NULL && self->results == NULL) {
        PyErr_SetString(PyExc_ValueError, "allocate_results() comes before values()");
        return NULL;
    }
    return list_of(object, take_value);
}
