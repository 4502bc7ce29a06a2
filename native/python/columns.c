/* The type Columns and the module around it: lifetime, attributes, methods. See columns.h. */

#include "columns.h"

/* Lifetime. */

static void release_all(columns *self)
{
    self->released = true;
    while (self->view_count > 0)
        PyBuffer_Release(&self->views[--self->view_count]);
    for (Py_ssize_t i = 0; self->results != NULL && i < self->count; i++)
        Py_XDECREF(self->results[i]);
    PyMem_Free(self->results);
    PyMem_Free(self->views);
    PyMem_Free(self->stats);
    PyMem_Free(self->items);
    self->results = NULL;
    self->views = NULL;
    self->stats = NULL;
    self->items = NULL;
    self->request.items = NULL;
    self->request.stats = NULL;
    Py_CLEAR(self->values);
    Py_CLEAR(self->keys);
}

static void columns_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc free_object = (freefunc)(uintptr_t)PyType_GetSlot(type, Py_tp_free);

    release_all((columns *)object);
    free_object(object);
    Py_DECREF(type);
}

static PyObject *columns_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"keys", "values", "writable", NULL};
    allocfunc allocate = (allocfunc)(uintptr_t)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *keys, *values = Py_None;
    int writable = 0;
    columns *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$p:Columns", names, &keys, &values,
                                     &writable))
        return NULL;
    self = (columns *)allocate(type, 0); /* zeroed */
    if (self == NULL)
        return NULL;
    self->writable = writable != 0;
    if (columns_take_arguments(self, keys, values) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

columns *columns_held(PyObject *object)
{
    columns *self = (columns *)object;

    if (self->released) {
        PyErr_SetString(PyExc_ValueError, "these Columns are released");
        return NULL;
    }
    return self;
}

static PyObject *columns_release(PyObject *object, PyObject *unused)
{
    (void)unused;
    release_all((columns *)object);
    Py_RETURN_NONE;
}

/* Attributes. */

static PyObject *columns_address(PyObject *object, void *unused)
{
    columns *self = columns_held(object);

    (void)unused;
    return self == NULL ? NULL : PyLong_FromUnsignedLongLong((uint64_t)(uintptr_t)self->items);
}

static PyObject *columns_request_address(PyObject *object, void *unused)
{
    columns *self = columns_held(object);

    (void)unused;
    return self == NULL ? NULL : PyLong_FromUnsignedLongLong((uint64_t)(uintptr_t)&self->request);
}

static PyObject *columns_stat_address(PyObject *object, void *unused)
{
    columns *self = columns_held(object);

    (void)unused;
    if (self == NULL)
        return NULL;
    if (self->stats == NULL)
        self->stats = PyMem_Calloc((size_t)self->count + 1, sizeof(kv_item_stat));
    if (self->stats == NULL)
        return PyErr_NoMemory();
    return PyLong_FromUnsignedLongLong((uint64_t)(uintptr_t)self->stats);
}

static PyObject *columns_count(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSsize_t(((columns *)object)->count);
}

static PyObject *columns_keys(PyObject *object, void *unused)
{
    columns *self = columns_held(object);

    (void)unused;
    return self == NULL ? NULL : Py_NewRef(self->keys);
}

static PyMethodDef columns_methods[] = {
    {"release", columns_release, METH_NOARGS,
     "Let go of every buffer; the items are gone. May be called again."},
    {"statuses", columns_statuses, METH_NOARGS, "kv_status of every key."},
    {"sizes", columns_sizes, METH_NOARGS, "result_size of every key, in bytes."},
    {"succeeded", columns_succeeded, METH_NOARGS, "Whether the status is KV_OK, of every key."},
    {"written", columns_written, METH_NOARGS,
     "Bytes written into every buffer; -1: no such key, -2: buffer too small, -3: error."},
    {"object_stats", columns_object_stats, METH_NOARGS,
     "(size, version, expiry_ms, checksum, flags) of every key, or None where its status is not "
     "KV_OK."},
    {"largest", columns_largest, METH_NOARGS,
     "The largest result_size of a key that is KV_OK or KV_BUFFER_TOO_SMALL."},
    {"allocate_results", columns_allocate_results, METH_VARARGS,
     "Make a bytes object for every key, the targets of a get: of one size for all or of a list of "
     "sizes; without either of result_size, for keys that are KV_OK."},
    {"values", columns_values, METH_NOARGS,
     "What the get wrote, as bytes, or None where it failed."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef columns_attributes[] = {
    {"address", columns_address, NULL, "Address of the kv_item array.", NULL},
    {"request_address", columns_request_address, NULL,
     "Address of a kv_request of these items; it lives as long as the Columns.", NULL},
    {"stat_address", columns_stat_address, NULL,
     "Address of a kv_item_stat array, made at the first use.", NULL},
    {"count", columns_count, NULL, "How many keys.", NULL},
    {"keys", columns_keys, NULL, "The keys, as a tuple.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* ISO C has no cast from a function to void *, but by way of an integer it has. */
static PyType_Slot columns_slots[] = {
    {Py_tp_new, NULL}, /* filled in by add_type: an initializer cannot hold the casts */
    {Py_tp_dealloc, NULL},
    {Py_tp_methods, columns_methods},
    {Py_tp_getset, columns_attributes},
    {0, NULL},
};

static PyType_Spec columns_spec = {
    .name = "kvstore._columns.Columns",
    .basicsize = sizeof(columns),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = columns_slots,
};

static int add_type(PyObject *module)
{
    PyObject *type;
    int added;

    columns_slots[0].pfunc = (void *)(uintptr_t)columns_new;
    columns_slots[1].pfunc = (void *)(uintptr_t)columns_dealloc;
    type = PyType_FromModuleAndSpec(module, &columns_spec, NULL);
    if (type == NULL)
        return -1;
    added = PyModule_AddObjectRef(module, "Columns", type);
    Py_DECREF(type);
    return added;
}

static PyModuleDef columns_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "kvstore._columns",
    .m_doc = "The keys and values of a batch as the C core reads them.",
    .m_size = 0,
};

PyMODINIT_FUNC PyInit__columns(void);

PyMODINIT_FUNC PyInit__columns(void)
{
    PyObject *module = PyModule_Create(&columns_module);

    if (module != NULL && add_type(module) < 0)
        Py_CLEAR(module);
    return module;
}
