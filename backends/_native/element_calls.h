/* Calls of the loops over elements, each for itself. */

/* softplus_and_sigmoid(x, above, rising) */
static PyObject *softplus_and_sigmoid(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0}, {"above", FLOAT32, 1}, {"rising", FLOAT32, 1}};
    Array a[3];
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    if (are_contiguous(a, wanted, 3) && have_one_shape(a, wanted, 3)) {
        Py_BEGIN_ALLOW_THREADS
        loops->softplus_and_sigmoid((float *)a[0].data, (float *)a[1].data, (float *)a[2].data, size_of(&a[0]));
        Py_END_ALLOW_THREADS
    }
    return finish(a, 3);
}

/* widen(x, out) and narrow(x, out): float16, or bfloat16 as its bits */
static PyObject *convert(PyObject *const *args, Py_ssize_t given, const Wanted *wanted, int narrows) {
    Array a[2];
    if (!take_all(args, given, a, wanted, 2)) return NULL;
    if (have_one_shape(a, wanted, 2)) {
        Widen widen_row = widen_of(a[0].kind);
        Narrow narrow_row = narrow_of(a[1].kind);
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[0]; n++)
            for (int64_t c = 0; c < a[0].shape[1]; c++) {
                int64_t from = n * a[0].step[0] + c * a[0].step[1], to = n * a[1].step[0] + c * a[1].step[1];
                if (narrows)
                    narrow_row((float *)a[0].data + from, (uint16_t *)a[1].data + to, a[0].shape[2]);
                else
                    widen_row((uint16_t *)a[0].data + from, (float *)a[1].data + to, a[0].shape[2]);
            }
        Py_END_ALLOW_THREADS
    }
    return finish(a, 2);
}

static PyObject *widen(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", UINT16 | FLOAT16, 0}, {"out", FLOAT32, 1}};
    return convert(args, given, wanted, 0);
}

static PyObject *narrow(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0}, {"out", UINT16 | FLOAT16, 1}};
    return convert(args, given, wanted, 1);
}

/* split_labels(labels, index, valid, ignore_index), contiguous */
static PyObject *split_labels(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {
        {"labels", INT64 | INT32 | INT16 | UINT8, 0}, {"index", INT32, 1}, {"valid", BOOL, 1}};
    Array a[3];
    if (given != 4) return PyErr_Format(PyExc_TypeError, "expected 4 arguments (got %zd)", given);
    long long ignore = PyLong_AsLongLong(args[3]);
    if (PyErr_Occurred() || !take_all(args, 3, a, wanted, 3)) return NULL;
    if (are_contiguous(a, wanted, 3) && have_one_shape(a, wanted, 3)) {
        int32_t *index = (int32_t *)a[1].data;
        uint8_t *valid = (uint8_t *)a[2].data;
        int64_t count = size_of(&a[0]);
        Py_BEGIN_ALLOW_THREADS
        switch (a[0].kind) {
        case INT64:
            split_int64_t((int64_t *)a[0].data, ignore, index, valid, count);
            break;
        case INT32:
            split_int32_t((int32_t *)a[0].data, ignore, index, valid, count);
            break;
        case INT16:
            split_int16_t((int16_t *)a[0].data, ignore, index, valid, count);
            break;
        default:
            split_uint8_t((uint8_t *)a[0].data, ignore, index, valid, count);
        }
        Py_END_ALLOW_THREADS
    }
    return finish(a, 3);
}

/* Of z, labels and, if it is wanted, a place for slopes: contiguous, and of one length. bfloat16 comes as its bits. */
static const Wanted ELEMENTS[] = {{"z", FLOATS, 0}, {"labels", FLOATS | INT64 | INT32 | UINT8, 0}, {"slopes", FLOATS, 1}};

static int take_elements(PyObject *const *args, Array *a, int *count) {
    *count = args[2] == Py_None ? 2 : 3;
    if (!take_all(args, *count, a, ELEMENTS, *count)) return 0;
    int fits = are_contiguous(a, ELEMENTS, *count) && have_one_shape(a, ELEMENTS, *count);
    if (fits && *count == 3 && a[2].kind != a[0].kind) {
        PyErr_SetString(PyExc_ValueError, "slopes has a dtype other than that of z");
        fits = 0;
    }
    if (!fits) finish(a, *count);
    return fits;
}

/* binary_cross_entropy(z, labels, slopes or None, ignore_index, v, w, g, s, t): the sum */
static PyObject *binary_cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    if (given != 9) return PyErr_Format(PyExc_TypeError, "expected 9 arguments (got %zd)", given);
    float by[5];
    double ignore = label_of(args[3]), sum = 0.0;
    for (int i = 0; i < 5; i++) by[i] = (float)PyFloat_AsDouble(args[4 + i]);
    Array a[3];
    int count;
    if (PyErr_Occurred() || !take_elements(args, a, &count)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    sum = loops->binary_cross_entropy(a[0].data, a[0].kind, a[1].data, a[1].kind, ignore, by, count == 3 ? a[2].data : NULL,
                                      size_of(&a[0]));
    Py_END_ALLOW_THREADS
    return finish_with(a, count, 0, 0, PyFloat_FromDouble(sum));
}

/* differences(z, labels, slopes or None, ignore_index or None, squares, by): the sum */
static PyObject *differences(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    if (given != 6) return PyErr_Format(PyExc_TypeError, "expected 6 arguments (got %zd)", given);
    int masks = args[3] != Py_None, squares = PyObject_IsTrue(args[4]);
    double ignore = masks ? label_of(args[3]) : 0.0, by = PyFloat_AsDouble(args[5]), sum = 0.0;
    Array a[3];
    int count;
    if (PyErr_Occurred() || !take_elements(args, a, &count)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    sum = loops->differences(a[0].data, a[0].kind, a[1].data, a[1].kind, ignore, masks, squares, (float)by,
                             count == 3 ? a[2].data : NULL, size_of(&a[0]));
    Py_END_ALLOW_THREADS
    return finish_with(a, count, 0, 0, PyFloat_FromDouble(sum));
}

/* tally(labels, counts, ignore_index or None, most): counts (4,) int64 are added to */
static PyObject *tally(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"labels", FLOAT32 | INT64 | INT32 | INT16 | UINT8, 0}, {"counts", INT64, 1}};
    Array a[2];
    if (given != 4) return PyErr_Format(PyExc_TypeError, "expected 4 arguments (got %zd)", given);
    int masks = args[2] != Py_None;
    double ignore = masks ? label_of(args[2]) : 0.0, most = PyErr_Occurred() ? 0.0 : label_of(args[3]);
    if (PyErr_Occurred() || !take_all(args, 2, a, wanted, 2)) return NULL;
    if (is_contiguous(&a[0], "labels") && has_shape(&a[1], "counts", 1, 1, 4)) {
        Py_BEGIN_ALLOW_THREADS
        loops->tally(a[0].data, a[0].kind, ignore, masks, most, (int64_t *)a[1].data, size_of(&a[0]));
        Py_END_ALLOW_THREADS
    }
    return finish(a, 2);
}
