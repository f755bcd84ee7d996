/* Calls of the loops over softmaxes. */

/* softmax_sums(z, norm, top) */
static PyObject *softmax_sums(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOAT32, 0}, {"norm", FLOAT32, 1}, {"top", FLOAT32, 1}};
    Array a[3];
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    if (has_channels(a, "z") && has_rows(&a[1], "norm", a) && has_rows(&a[2], "top", a)) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a->shape[0]; n++)
            loops->softmax_sums(IMAGE(*a, float, n), a->step[1], ROW(a[1], float, n), ROW(a[2], float, n), a->shape[1], a->shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish(a, 3);
}

/* cross_entropy(z, index, losses) or cross_entropy(z, index, losses, weights, slopes) */
static PyObject *cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOATS, 0},
                                    {"index", INT32 | INT64, 0},
                                    {"losses", FLOAT32, 1},
                                    {"weights", FLOAT32, 0},
                                    {"slopes", FLOATS, 1}};
    Array a[5];
    int count = given == 3 ? 3 : 5, slopes = count == 5;
    int64_t wrong = 0;
    if (!take_all(args, given, a, wanted, count)) return NULL;
    if (has_channels(a, "z") && has_rows(&a[1], "index", a) && has_rows(&a[2], "losses", a) &&
        (!slopes || has_rows(&a[3], "weights", a)) &&
        (!slopes || has_shape(&a[4], "slopes", a[0].shape[0], a[0].shape[1], a[0].shape[2]))) {
        Tile t = tile_of(&a[0], slopes ? &a[4] : NULL);
        if (!PyErr_Occurred()) {
            Py_BEGIN_ALLOW_THREADS
            for (int64_t n = 0; n < a[0].shape[0]; n++) {
                while (next_tile(&t, n)) {
                    wrong += loops->cross_entropy(t.z, t.z_step, INDEX_AT(a[1], n, t.start), a[1].kind,
                                                  ROW(a[2], float, n) + t.start, slopes ? ROW(a[3], float, n) + t.start : NULL,
                                                  t.out, t.out_step, a[0].shape[1], t.count);
                    close_tile(&t, n);
                }
            }
            Py_END_ALLOW_THREADS
        }
        let_go(&t);
    }
    return finish_indexed(a, count, wrong, a[0].shape[1]);
}

typedef struct {
    const Array *z, *labels;
    Tile *tiles;
    int64_t ignore, step, per_image;
    float share;
    double *sums;
    Atomic wrong;
} Plain;

static void plain_piece(void *data, int64_t piece, int seat) {
    Plain *job = data;
    const Array *labels = job->labels;
    Tile *t = &job->tiles[seat];
    int64_t n = piece / job->per_image, end = (piece % job->per_image + 1) * job->step, pixels = job->z->shape[2];
    t->start = end - job->step;
    while (next_tile_before(t, n, end < pixels ? end : pixels)) {
        int64_t wrong = loops->plain_cross_entropy(t->z, t->z_step, INDEX_AT(*labels, n, t->start), labels->kind, job->ignore,
                                                   job->share, t->out, t->out_step, job->z->shape[1], t->count, &job->sums[piece]);
        if (wrong) (void)ADD(&job->wrong, wrong);
        close_tile(t, n);
    }
}

/* plain_cross_entropy(z, labels, slopes or None, ignore_index, share, threads): the sum */
static PyObject *plain_cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOATS, 0}, {"labels", INT64 | INT32 | INT16 | UINT8, 0}, {"slopes", FLOATS, 1}};
    Array a[3];
    if (given != 6) return PyErr_Format(PyExc_TypeError, "expected 6 arguments (got %zd)", given);
    int count = args[2] == Py_None ? 2 : 3;
    Plain job = {.z = &a[0], .labels = &a[1], .share = (float)PyFloat_AsDouble(args[4])};
    job.ignore = PyErr_Occurred() ? 0 : PyLong_AsLongLong(args[3]);
    int seats = PyErr_Occurred() ? 0 : seats_of(args[5]);
    double sum = 0.0;
    if (!seats || !take_all(args, count, a, wanted, count)) return NULL;
    if (has_channels(a, "z") && has_rows(&a[1], "labels", a) &&
        (count == 2 || has_shape(&a[2], "slopes", a->shape[0], a->shape[1], a->shape[2]))) {
        job.step = piece_of(a->shape[0] * a->shape[2], 4 * LEAST_WORK / a->shape[1]);
        job.per_image = pieces_of(a->shape[2], job.step);
        int64_t pieces = a->shape[0] * job.per_image;
        if (seats > pieces) seats = pieces > 0 ? (int)pieces : 1;
        job.tiles = tiles_of(&a[0], count == 3 ? &a[2] : NULL, seats);
        job.sums = job.tiles ? sums_of(pieces) : NULL;
        if (job.sums) {
            Py_BEGIN_ALLOW_THREADS
            share_out(plain_piece, &job, pieces, seats);
            Py_END_ALLOW_THREADS
            sum = added(job.sums, pieces);
        }
        let_all_go(job.tiles, seats);
    }
    return finish_with(a, count, job.wrong, a->shape[1], PyFloat_FromDouble(sum));
}

/* through_softmax(z, slope, weights or None, out) */
static PyObject *through_softmax(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOAT32, 0}, {"slope", FLOAT32, 0}, {"out", FLOAT32, 1}, {"weights", FLOAT32, 0}};
    Array a[4];
    if (given != 4) return PyErr_Format(PyExc_TypeError, "expected 4 arguments (got %zd)", given);
    int count = args[2] == Py_None ? 3 : 4;
    PyObject *ordered[] = {args[0], args[1], args[3], args[2]};
    if (!take_all(ordered, count, a, wanted, count)) return NULL;
    int fits = has_channels(a, "z") && (count == 3 || has_rows(&a[3], "weights", a)) && have_one_shape(a, wanted, 3);
    float *powers = fits ? block_room(a[0].shape[1]) : NULL;
    if (powers) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[0]; n++)
            loops->through_softmax(IMAGE(a[0], float, n), a[0].step[1], IMAGE(a[1], float, n), a[1].step[1],
                                   count == 4 ? ROW(a[3], float, n) : NULL, powers, IMAGE(a[2], float, n), a[2].step[1],
                                   a[0].shape[1], a[0].shape[2]);
        Py_END_ALLOW_THREADS
        PyMem_Free(powers);
    }
    return finish(a, count);
}

/* through_softmax_by_class(z, index, by_class, by_own, weights, out): the two in the middle (N, C) */
static PyObject *through_softmax_by_class(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOATS, 0},       {"index", INT32 | INT64, 0}, {"by_class", FLOAT32, 0},
                                    {"by_own", FLOAT32, 0}, {"weights", FLOAT32, 0},     {"out", FLOATS, 1}};
    Array a[6];
    int64_t wrong = 0;
    if (!take_all(args, given, a, wanted, 6)) return NULL;
    int64_t images = a->shape[0], channels = a->shape[1];
    if (has_channels(a, "z") && has_rows(&a[1], "index", a) && has_shape(&a[2], "by_class", 1, images, channels) &&
        has_shape(&a[3], "by_own", 1, images, channels) && has_rows(&a[4], "weights", a) &&
        has_shape(&a[5], "out", images, channels, a->shape[2])) {
        Tile t = tile_of(&a[0], &a[5]);
        if (!PyErr_Occurred()) {
            Py_BEGIN_ALLOW_THREADS
            for (int64_t n = 0; n < images; n++) {
                while (next_tile(&t, n)) {
                    wrong += loops->through_softmax_by_class(t.z, t.z_step, INDEX_AT(a[1], n, t.start), a[1].kind,
                                                             ROW(a[2], float, n), ROW(a[3], float, n),
                                                             ROW(a[4], float, n) + t.start, t.out, t.out_step, channels, t.count);
                    close_tile(&t, n);
                }
            }
            Py_END_ALLOW_THREADS
        }
        let_go(&t);
    }
    return finish_indexed(a, 6, wrong, channels);
}

/* softmax_totals(z, index, weights, sums): sums (N, 3, C) float64 are added to */
static PyObject *softmax_totals(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {
        {"z", FLOATS, 0}, {"index", INT32 | INT64, 0}, {"weights", FLOAT32, 0}, {"sums", FLOAT64, 1}};
    Array a[4];
    int64_t wrong = 0;
    if (!take_all(args, given, a, wanted, 4)) return NULL;
    int64_t channels = a->shape[1];
    if (has_channels(a, "z") && has_rows(&a[1], "index", a) && has_rows(&a[2], "weights", a) && is_contiguous(&a[3], "sums") &&
        has_shape(&a[3], "sums", a->shape[0], 3, channels)) {
        Tile t = tile_of(&a[0], NULL);
        float *powers = PyErr_Occurred() ? NULL : block_room(channels);
        if (powers) {
            Py_BEGIN_ALLOW_THREADS
            for (int64_t n = 0; n < a->shape[0]; n++) {
                double *sums = (double *)a[3].data + n * 3 * channels;
                while (next_tile(&t, n))
                    wrong += loops->softmax_totals(t.z, t.z_step, INDEX_AT(a[1], n, t.start), a[1].kind,
                                                   ROW(a[2], float, n) + t.start, powers, sums, sums + channels,
                                                   sums + 2 * channels, channels, t.count);
            }
            Py_END_ALLOW_THREADS
        }
        PyMem_Free(powers);
        let_go(&t);
    }
    return finish_indexed(a, 4, wrong, channels);
}

/* relaxed_cross_entropy(z, near, losses) or relaxed_cross_entropy(z, near, losses, weights, slopes) */
static PyObject *relaxed_cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {
        {"z", FLOAT32, 0}, {"near", BOOL, 0}, {"losses", FLOAT32, 1}, {"weights", FLOAT32, 0}, {"slopes", FLOAT32, 1}};
    Array a[5];
    int count = given == 3 ? 3 : 5, slopes = count == 5;
    if (!take_all(args, given, a, wanted, count)) return NULL;
    if (has_channels(a, "z") && has_shape(&a[1], "near", a[0].shape[0], a[0].shape[1], a[0].shape[2]) && has_rows(&a[2], "losses", a) &&
        (!slopes || has_rows(&a[3], "weights", a)) &&
        (!slopes || has_shape(&a[4], "slopes", a[0].shape[0], a[0].shape[1], a[0].shape[2]))) {
        float *powers = block_room(a[0].shape[1]);
        if (!powers) return finish(a, count);
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[0]; n++)
            loops->relaxed_cross_entropy(IMAGE(a[0], float, n), a[0].step[1], IMAGE(a[1], uint8_t, n), a[1].step[1],
                                         ROW(a[2], float, n), slopes ? ROW(a[3], float, n) : NULL, powers,
                                         slopes ? IMAGE(a[4], float, n) : NULL, slopes ? a[4].step[1] : 0, a[0].shape[1],
                                         a[0].shape[2]);
        Py_END_ALLOW_THREADS
        PyMem_Free(powers);
    }
    return finish(a, count);
}
