/* What the caller passed as keys and values: checked, kept alive, and pointed at by items.
 *
 * Guarantees: each error names the argument and the index, and says what was expected. On failure
 * the columns is partly filled, and releasing it undoes everything.
 * Leaves to others: the limit of a value's size, which is a result of its key and no error. */

#include "columns.h"

static const char *values_name(const columns *self)
{
    return self->writable ? "buffers" : "values";
}

static const char *type_name(PyObject *object, PyObject **owner)
{
    PyObject *name = PyType_GetName(Py_TYPE(object));
    const char *text = name == NULL ? NULL : PyUnicode_AsUTF8AndSize(name, NULL);

    *owner = name;
    if (text == NULL)
        PyErr_Clear();
    return text == NULL ? "?" : text;
}

/* Raises TypeError "<name>[<index>]: expected <what>, got <type>". */
static void raise_wrong_type(const char *name, Py_ssize_t index, const char *what, PyObject *object)
{
    PyObject *owner;
    const char *type = type_name(object, &owner);

    PyErr_Format(PyExc_TypeError, "%s[%zd]: expected %s, got %s", name, index, what, type);
    Py_XDECREF(owner);
}

/* Puts "<name>[<index>]: " before the message of the error that is set, whose type stays. */
static void prefix_error(const char *name, Py_ssize_t index)
{
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (PyErr_GivenExceptionMatches(type, PyExc_TypeError))
        PyErr_Format(PyExc_TypeError, "%s[%zd]: %S", name, index, value);
    else if (PyErr_GivenExceptionMatches(type, PyExc_BufferError))
        PyErr_Format(PyExc_BufferError, "%s[%zd]: %S", name, index, value);
    else if (PyErr_GivenExceptionMatches(type, PyExc_ValueError))
        PyErr_Format(PyExc_ValueError, "%s[%zd]: %S", name, index, value);
    else {
        PyErr_Restore(type, value, traceback);
        return;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

/* Arguments to tuples. */

/* One str or one buffer is a sequence to Python, but never what the caller meant here. */
static bool single_value(PyObject *object)
{
    return PyUnicode_Check(object) || PyBytes_Check(object) || PyByteArray_Check(object) ||
           PyMemoryView_Check(object);
}

/* A new tuple of the iterable, or NULL with TypeError. */
static PyObject *tuple_of(PyObject *iterable, const char *name)
{
    PyObject *iterator, *tuple, *owner;

    if (PyTuple_CheckExact(iterable))
        return Py_NewRef(iterable);
    if (PyList_CheckExact(iterable))
        return PyList_AsTuple(iterable);

    iterator = single_value(iterable) ? NULL : PyObject_GetIter(iterable);
    if (iterator == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_TypeError, "%s: expected a sequence, got one %s", name,
                     type_name(iterable, &owner));
        Py_XDECREF(owner);
        return NULL;
    }
    tuple = PySequence_Tuple(iterator);
    Py_DECREF(iterator);
    return tuple;
}

/* Keys and values to items. */

static int key_of(kv_item *item, PyObject *key, Py_ssize_t index)
{
    char *writable;
    const char *bytes;
    Py_ssize_t size;

    if (Py_TYPE(key) == &PyBytes_Type || PyBytes_Check(key)) { /* most of the time without a call */
        (void)PyBytes_AsStringAndSize(key, &writable, &size);  /* fails on other types only */
        bytes = writable;
    } else if (PyUnicode_Check(key)) {
        bytes = PyUnicode_AsUTF8AndSize(key, &size); /* kept by the str for as long as it lives */
        if (bytes == NULL) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "keys[%zd]: this str cannot be encoded as UTF-8", index);
            return -1;
        }
    } else {
        raise_wrong_type("keys", index, "bytes or str", key);
        return -1;
    }
    if (size < 1 || size > KV_KEY_SIZE_LIMIT) {
        PyErr_Format(PyExc_ValueError, "keys[%zd]: a key has 1 to %d bytes, this one has %zd",
                     index, KV_KEY_SIZE_LIMIT, size);
        return -1;
    }
    item->key = (uint64_t)(uintptr_t)bytes;
    item->key_size = (uint32_t)size;
    return 0;
}

static int pair_of(columns *self, kv_item *item, PyObject *pair, Py_ssize_t index)
{
    PyObject *first = PyTuple_Size(pair) == 2 ? PyTuple_GetItem(pair, 0) : NULL;
    PyObject *second = first == NULL ? NULL : PyTuple_GetItem(pair, 1);
    unsigned long long address, size;

    if (second == NULL || !PyLong_Check(first) || !PyLong_Check(second)) {
        PyErr_Format(PyExc_TypeError, "%s[%zd]: a tuple here is (address, length), two ints",
                     values_name(self), index);
        return -1;
    }
    address = PyLong_AsUnsignedLongLong(first);
    size = PyErr_Occurred() ? 0 : PyLong_AsUnsignedLongLong(second);
    if (PyErr_Occurred() || (address == 0 && size != 0) || size > UINT64_MAX - address) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "%s[%zd]: (%R, %R) is no address and length of memory",
                     values_name(self), index, first, second);
        return -1;
    }
    columns_place_value(item, address, size);
    return 0;
}

/* Says why `value` gave no buffer: the error that is set is replaced or prefixed. */
static void explain_refused_buffer(columns *self, PyObject *value, Py_ssize_t index)
{
    PyObject *type, *error, *traceback;
    Py_buffer view;

    PyErr_Fetch(&type, &error, &traceback);
    if (self->writable && PyObject_GetBuffer(value, &view, PyBUF_SIMPLE) == 0) {
        PyBuffer_Release(&view);
        PyErr_Format(PyExc_BufferError, "buffers[%zd] is read-only", index);
        Py_XDECREF(type);
        Py_XDECREF(error);
        Py_XDECREF(traceback);
        return;
    }
    PyErr_Clear();
    PyErr_Restore(type, error, traceback);
    prefix_error(values_name(self), index);
}

static int value_of(columns *self, kv_item *item, PyObject *value, Py_ssize_t index)
{
    Py_buffer *view = &self->views[self->view_count];

    if (PyBytes_CheckExact(value) && !self->writable) { /* immutable: our reference is enough */
        columns_place_value(item, (uint64_t)(uintptr_t)PyBytes_AsString(value),
                            (uint64_t)PyBytes_Size(value));
        return 0;
    }
    if (PyTuple_CheckExact(value))
        return pair_of(self, item, value, index);
    if (!PyObject_CheckBuffer(value)) {
        raise_wrong_type(values_name(self), index, "a buffer or an (address, length) pair", value);
        return -1;
    }
    if (PyObject_GetBuffer(value, view, self->writable ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0) {
        explain_refused_buffer(self, value, index);
        return -1;
    }
    self->view_count++;
    columns_place_value(item, (uint64_t)(uintptr_t)view->buf, (uint64_t)view->len);
    return 0;
}

static int take_tuples(columns *self, PyObject *keys, PyObject *values)
{
    self->keys = tuple_of(keys, "keys");
    if (self->keys == NULL)
        return -1;
    self->count = PyTuple_Size(self->keys);
    if (self->count > KV_BATCH_COUNT_LIMIT) {
        PyErr_Format(PyExc_ValueError, "a batch has at most %d keys, this one has %zd",
                     KV_BATCH_COUNT_LIMIT, self->count);
        return -1;
    }
    if (values == Py_None)
        return 0;
    self->values = tuple_of(values, values_name(self));
    if (self->values == NULL)
        return -1;
    if (PyTuple_Size(self->values) != self->count) {
        PyErr_Format(PyExc_ValueError, "%zd keys but %zd %s", self->count,
                     PyTuple_Size(self->values), values_name(self));
        return -1;
    }
    return 0;
}

/* Of a batch that was put together long ago nothing is in the cache, and objects lie scattered: what
 * will be looked at is asked for that many keys ahead, all at once. */
#define AHEAD_COUNT 16
#define LINE_SIZE 64

static void ask_ahead(const columns *self, Py_ssize_t index)
{
    const char *key = (const char *)PyTuple_GetItem(self->keys, index);

    __builtin_prefetch(key, 1);
    __builtin_prefetch(key + LINE_SIZE);
    if (self->values != NULL) { /* a memoryview is two lines and a half, all of them read */
        const char *value = (const char *)PyTuple_GetItem(self->values, index);

        __builtin_prefetch(value, 1);
        __builtin_prefetch(value + LINE_SIZE, 1);
        __builtin_prefetch(value + 2 * LINE_SIZE);
    }
}

static int fill_items(columns *self)
{
    self->items = PyMem_Calloc((size_t)self->count + 1, sizeof(kv_item));
    if (self->values != NULL)
        self->views = PyMem_Calloc((size_t)self->count + 1, sizeof(Py_buffer));
    if (self->items == NULL || (self->values != NULL && self->views == NULL)) {
        PyErr_NoMemory();
        return -1;
    }
    self->request.items = self->items;
    self->request.count = (uint32_t)self->count;
    for (Py_ssize_t i = 0; i < AHEAD_COUNT && i < self->count; i++)
        ask_ahead(self, i);
    for (Py_ssize_t i = 0; i < self->count; i++) {
        if (i + AHEAD_COUNT < self->count)
            ask_ahead(self, i + AHEAD_COUNT);
        if (key_of(&self->items[i], PyTuple_GetItem(self->keys, i), i) < 0)
            return -1;
        if (self->values != NULL &&
            value_of(self, &self->items[i], PyTuple_GetItem(self->values, i), i) < 0)
            return -1;
    }
    return 0;
}

int columns_take_arguments(columns *self, PyObject *keys, PyObject *values)
{
    if (take_tuples(self, keys, values) < 0)
        return -1;
    return fill_items(self);
}
