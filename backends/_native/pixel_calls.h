/* Calls of the loops that look classes up, and of those along sorted pixels. */

/* pick(x, index, out) */
static PyObject *pick(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0}, {"index", INT32 | INT64, 0}, {"out", FLOAT32, 1}};
    Array a[3];
    int64_t wrong = 0;
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    if (has_channels(a, "x") && has_rows(&a[1], "index", a) && has_rows(&a[2], "out", a)) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[0]; n++)
            wrong += pick_pixels(IMAGE(a[0], float, n), a[0].step[1], INDEX_ROW(a[1], n), a[1].kind, ROW(a[2], float, n),
                                 a[0].shape[1], a[0].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish_indexed(a, 3, wrong, a[0].shape[1]);
}

/* subtract_at(x, index, amount) */
static PyObject *subtract_at(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 1}, {"index", INT32 | INT64, 0}, {"amount", FLOAT32, 0}};
    Array a[3];
    int64_t wrong = 0;
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    if (has_rows(&a[1], "index", a) && has_rows(&a[2], "amount", a)) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[0]; n++)
            wrong += subtract_pixels(IMAGE(a[0], float, n), a[0].step[1], INDEX_ROW(a[1], n), a[1].kind,
                                     ROW(a[2], float, n), a[0].shape[1], a[0].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish_indexed(a, 3, wrong, a[0].shape[1]);
}

/* class_sums(sums, values, index): sums (N, C, 1) float64 are added to */
static PyObject *class_sums(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"sums", FLOAT64, 1}, {"values", FLOAT32, 0}, {"index", INT32 | INT64, 0}};
    Array a[3];
    int64_t wrong = 0;
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    if (is_contiguous(&a[0], "sums") && has_shape(&a[0], "sums", -1, -1, 1) && has_shape(&a[1], "values", 1, a[0].shape[0], -1) &&
        has_shape(&a[2], "index", 1, a[0].shape[0], a[1].shape[2])) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[0]; n++)
            wrong += add_to_classes(ROW(a[1], float, n), INDEX_ROW(a[2], n), a[2].kind, (double *)a[0].data + n * a[0].shape[1],
                                    a[0].shape[1], a[1].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish_indexed(a, 3, wrong, a[0].shape[1]);
}

/* sums(out, x): out (N, C, 1) float64 */
static PyObject *sums(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"out", FLOAT64, 1}, {"x", FLOAT32, 0}};
    Array a[2];
    if (!take_all(args, given, a, wanted, 2)) return NULL;
    if (is_contiguous(&a[0], "out") && has_shape(&a[0], "out", a[1].shape[0], a[1].shape[1], 1)) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[1].shape[0]; n++)
            for (int64_t c = 0; c < a[1].shape[1]; c++)
                ((double *)a[0].data)[n * a[1].shape[1] + c] = loops->sum(IMAGE(a[1], float, n) + c * a[1].step[1], a[1].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish(a, 2);
}

/* descending_keys(x, keys), row by row */
static PyObject *descending_keys(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0}, {"keys", UINT64, 1}};
    Array a[2];
    if (!take_all(args, given, a, wanted, 2)) return NULL;
    if (a[0].shape[2] > (int64_t)UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "x has more entries in a row than fit 32 bits");
    } else if (has_shape(&a[0], "x", 1, -1, -1) && has_shape(&a[1], "keys", 1, a[0].shape[1], a[0].shape[2])) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[1]; n++)
            loops->descending_keys(ROW(a[0], float, n), ROW(a[1], uint64_t, n), a[0].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish(a, 2);
}

/* marked_keys(x, marks, keys), row by row */
static PyObject *marked_keys(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0}, {"marks", BOOL, 0}, {"keys", UINT64, 1}};
    Array a[3];
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    if (a[0].shape[2] > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "x has more entries in a row than fit 31 bits");
    } else if (has_shape(&a[0], "x", 1, -1, -1) && has_shape(&a[1], "marks", 1, a[0].shape[1], a[0].shape[2]) &&
               has_shape(&a[2], "keys", 1, a[0].shape[1], a[0].shape[2])) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[1]; n++)
            loops->marked_keys(ROW(a[0], float, n), ROW(a[1], uint8_t, n), ROW(a[2], uint64_t, n), a[0].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish(a, 3);
}

/* jaccard_steps(keys, steps), row by row: keys are sorted marked ones */
static PyObject *jaccard_steps(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"keys", UINT64, 0}, {"steps", FLOAT32, 1}};
    Array a[2];
    int64_t wrong = 0;
    if (!take_all(args, given, a, wanted, 2)) return NULL;
    if (a[0].shape[2] > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "keys has more entries in a row than fit 31 bits");
    } else if (has_shape(&a[0], "keys", 1, -1, -1) && has_shape(&a[1], "steps", 1, a[0].shape[1], a[0].shape[2])) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[1]; n++)
            wrong += loops->jaccard_steps(ROW(a[0], uint64_t, n), ROW(a[1], float, n), a[0].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish_indexed(a, 2, wrong, a[0].shape[2]);
}
