/* What every call does: it takes its arrays, and lets them go with an error or a result. */

/* Takes the arguments of a call, in order: name, kinds, whether it is written to. Any failure ends the call. */
typedef struct {
    const char *name;
    int kinds;
    int writable;
} Wanted;

static int take_all(PyObject *const *args, Py_ssize_t given, Array *arrays, const Wanted *wanted, int count) {
    if (given != count) {
        PyErr_Format(PyExc_TypeError, "expected %d arrays (got %zd)", count, given);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (take(args[i], &arrays[i], wanted[i].name, wanted[i].kinds, wanted[i].writable)) continue;
        while (--i >= 0) PyBuffer_Release(&arrays[i].view);
        return 0;
    }
    return 1;
}

/* Indices must be below `limit`; `wrong` of them were not. */
static PyObject *finish_indexed(Array *arrays, int count, int64_t wrong, int64_t limit) {
    for (int i = 0; i < count; i++) PyBuffer_Release(&arrays[i].view);
    if (PyErr_Occurred()) return NULL;
    if (wrong) {
        PyErr_Format(PyExc_IndexError, "%lld indices are not in [0, %lld)", (long long)wrong, (long long)limit);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *finish(Array *arrays, int count) { return finish_indexed(arrays, count, 0, 0); }

/* With a result of the call's own, unless there was an error. */
static PyObject *finish_with(Array *arrays, int count, PyObject *result) {
    PyObject *none = finish(arrays, count);
    if (!none) {
        Py_XDECREF(result);
        return NULL;
    }
    Py_DECREF(none);
    return result;
}

#define IMAGE(array, type, n) ((type *)(array).data + (n) * (array).step[0])
#define ROW(array, type, n) ((type *)(array).data + (n) * (array).step[1])
#define INDEX_ROW(array, n) ((array).data + (n) * (array).step[1] * (array).view.itemsize)

static int has_rows(const Array *array, const char *name, const Array *of) {
    return has_shape(array, name, 1, of->shape[0], of->shape[2]);
}

/* The loops begin with the first channel. */
static int has_channels(const Array *array, const char *name) {
    if (array->shape[1] == 0) PyErr_Format(PyExc_ValueError, "%s has no channels", name);
    return array->shape[1] != 0;
}
