/* Calls of the loops that look classes up. */

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
