/* Calls of the loops that find errors of pixels, and that order pixels by them. */

static int fits_31_bits(int64_t pixels) {
    if (pixels > INT32_MAX) PyErr_SetString(PyExc_ValueError, "there are more pixels than fit 31 bits");
    return pixels <= INT32_MAX;
}

/* Of an array (N, S), as the first is: the loops take one row after the other. */
static int have_rows(const Array *arrays, const Wanted *wanted, int count) {
    return has_shape(arrays, wanted->name, 1, -1, -1) && have_one_shape(arrays, wanted, count);
}

/* kth_largest(x, out, k): of each row (N, S) the k-th largest number, into (N, 1) */
static PyObject *kth_largest(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0}, {"out", FLOAT32, WRITTEN}};
    if (given != 3) return PyErr_Format(PyExc_TypeError, "expected 3 arguments (got %zd)", given);
    int64_t k = PyLong_AsLongLong(args[2]);
    Array a[2];
    if (PyErr_Occurred() || !take_all(args, 2, a, wanted, 2)) return NULL;
    int64_t pixels = a->shape[2];
    if (k < 1 || k > pixels) {
        PyErr_Format(PyExc_ValueError, "k is %lld, expected one of the %lld numbers of a row", (long long)k, (long long)pixels);
    } else if (fits_31_bits(pixels) && has_shape(a, "x", 1, -1, -1) && has_shape(&a[1], "out", 1, a->shape[1], 1)) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a->shape[1]; n++) *ROW(a[1], float, n) = loops->kth_largest(ROW(a[0], float, n), k, pixels);
        Py_END_ALLOW_THREADS
    }
    return finish(a, 2);
}

/* jaccard_keys(errors, marks, keys): how many keys there are, and how many marks */
static PyObject *jaccard_keys(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"errors", FLOAT32, 0}, {"marks", BOOL, 0}, {"keys", UINT64, WRITTEN}};
    int64_t kept = 0, marked = 0;
    Array a[3];
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    if (fits_31_bits(a->shape[2]) && has_shape(a, "errors", 1, 1, -1) && have_one_shape(a, wanted, 3)) {
        Py_BEGIN_ALLOW_THREADS
        kept = loops->jaccard_keys((float *)a[0].data, (uint8_t *)a[1].data, (uint64_t *)a[2].data, &marked, a->shape[2]);
        Py_END_ALLOW_THREADS
    }
    if (PyErr_Occurred()) return finish(a, 3);
    return finish_with(a, 3, 0, 0, Py_BuildValue("LL", (long long)kept, (long long)marked));
}

/* sort_keys(keys, room): by their upper halves, equal ones in their order; whether they have ended up in `room` */
static PyObject *sort_keys(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"keys", UINT64, WRITTEN}, {"room", UINT64, WRITTEN}};
    Array a[2];
    int moved = 0;
    if (!take_all(args, given, a, wanted, 2)) return NULL;
    if (fits_31_bits(a->shape[2]) && has_shape(a, "keys", 1, 1, -1) && have_one_shape(a, wanted, 2)) {
        Py_BEGIN_ALLOW_THREADS
        moved = sort_by_upper_half((uint64_t *)a[0].data, (uint64_t *)a[1].data, a->shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish_with(a, 2, 0, 0, PyBool_FromLong(moved));
}

/* lovasz(keys, slopes, marked, scale): the value; keys are sorted ones, and `marked` how many marks there are in all */
static PyObject *lovasz(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"keys", UINT64, 0}, {"slopes", FLOAT32, WRITTEN}};
    if (given != 4) return PyErr_Format(PyExc_TypeError, "expected 4 arguments (got %zd)", given);
    int64_t marked = PyLong_AsLongLong(args[2]), wrong = 0, pixels;
    double scale = PyFloat_AsDouble(args[3]), value = 0.0;
    Array a[2];
    if (PyErr_Occurred() || !take_all(args, 2, a, wanted, 2)) return NULL;
    pixels = a[1].shape[2];
    if (marked < 0 || marked > pixels) {
        PyErr_Format(PyExc_ValueError, "marked is %lld, expected a number of pixels", (long long)marked);
    } else if (fits_31_bits(pixels) && has_shape(&a[0], "keys", 1, 1, -1) && has_shape(&a[1], "slopes", 1, 1, -1)) {
        Py_BEGIN_ALLOW_THREADS
        value = loops->lovasz((uint64_t *)a[0].data, a[0].shape[2], marked, (float)scale, (float *)a[1].data, pixels, &wrong);
        Py_END_ALLOW_THREADS
    }
    return finish_with(a, 2, wrong, pixels, PyFloat_FromDouble(value));
}

/* class_errors(x, top, norm, index, valid, errors, marks, number) */
static PyObject *class_errors(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0},  {"top", FLOAT32, 0},    {"norm", FLOAT32, 0}, {"index", INT32, 0},
                                    {"valid", BOOL, 0}, {"errors", FLOAT32, WRITTEN}, {"marks", BOOL, WRITTEN}};
    if (given != 8) return PyErr_Format(PyExc_TypeError, "expected 8 arguments (got %zd)", given);
    long number = PyLong_AsLong(args[7]);
    Array a[7];
    if (PyErr_Occurred() || !take_all(args, 7, a, wanted, 7)) return NULL;
    if (have_rows(a, wanted, 7)) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a->shape[1]; n++)
            loops->class_errors(ROW(a[0], float, n), ROW(a[1], float, n), ROW(a[2], float, n), ROW(a[3], int32_t, n),
                                ROW(a[4], uint8_t, n), (int32_t)number, ROW(a[5], float, n), ROW(a[6], uint8_t, n), a->shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish(a, 7);
}

/* hinge_errors(score, index, valid, errors, marks) */
static PyObject *hinge_errors(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {
        {"score", FLOAT32, 0}, {"index", INT32, 0}, {"valid", BOOL, 0}, {"errors", FLOAT32, WRITTEN}, {"marks", BOOL, WRITTEN}};
    Array a[5];
    if (!take_all(args, given, a, wanted, 5)) return NULL;
    if (have_rows(a, wanted, 5)) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a->shape[1]; n++)
            loops->hinge_errors(ROW(a[0], float, n), ROW(a[1], int32_t, n), ROW(a[2], uint8_t, n), ROW(a[3], float, n),
                                ROW(a[4], uint8_t, n), a->shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish(a, 5);
}
