/* Calls of the loops over softmaxes. */

/* softmax_sums(z, norm, top) */
static PyObject *softmax_sums(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOAT32, 0}, {"norm", FLOAT32, WRITTEN}, {"top", FLOAT32, WRITTEN}};
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
                                    {"losses", FLOAT32, WRITTEN},
                                    {"weights", FLOAT32, 0},
                                    {"slopes", FLOATS, WRITTEN}};
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

/* Loops over labels and their classes, shared out: of each piece a sum. Without `z` it is of the labels' weights alone. */
typedef struct {
    const Array *z, *labels;
    Tile *tiles;
    const float *by_class;
    int64_t ignore, channels, step, per_image;
    float share;
    double *sums;
    Atomic wrong;
} Plain;

static void plain_piece(void *data, int64_t piece, int seat) {
    Plain *job = data;
    const Array *labels = job->labels;
    int64_t n = piece / job->per_image, end = (piece % job->per_image + 1) * job->step, pixels = labels->shape[2], wrong = 0;
    Tile *t = &job->tiles[seat];
    t->start = end - job->step;
    while (next_tile_before(t, n, end < pixels ? end : pixels)) {
        wrong += loops->plain_cross_entropy(t->z, t->z_step, INDEX_AT(*labels, n, t->start), labels->kind, job->ignore, job->by_class,
                                            job->share, t->out, t->out_step, job->channels, t->count, &job->sums[piece]);
        close_tile(t, n);
    }
    if (wrong) (void)ADD(&job->wrong, wrong);
}

static void weight_piece(void *data, int64_t piece, int seat) {
    Plain *job = data;
    const Array *labels = job->labels;
    int64_t n = piece / job->per_image, start = piece % job->per_image * job->step, left = labels->shape[2] - start;
    int64_t wrong = loops->weight_sum(INDEX_AT(*labels, n, start), labels->kind, job->ignore, job->by_class, job->channels,
                                      left < job->step ? left : job->step, &job->sums[piece]);
    if (wrong) (void)ADD(&job->wrong, wrong);
}

/* Shares out pieces of about so many pixels, and returns the sum; or an error is set. */
static double sum_of_pixels(Work work, Plain *job, int64_t least, int seats) {
    int64_t images = job->labels->shape[1], pixels = job->labels->shape[2];
    double sum = 0.0;
    job->step = piece_of(images * pixels, least);
    job->per_image = pieces_of(pixels, job->step);
    int64_t pieces = images * job->per_image;
    job->sums = sums_of(pieces);
    if (!job->sums) return sum;
    Py_BEGIN_ALLOW_THREADS
    share_out(work, job, pieces, seats);
    Py_END_ALLOW_THREADS
    return added(job->sums, pieces);
}

#define LABELS (INT64 | INT32 | INT16 | UINT8)

/* plain_cross_entropy(z, labels, slopes or None, by_class or None, ignore_index, share, threads): the sum */
static PyObject *plain_cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {
        {"z", FLOATS, 0}, {"labels", LABELS, 0}, {"slopes", FLOATS, WRITTEN | OPTIONAL}, {"by_class", FLOAT32, OPTIONAL}};
    if (given != 7) return PyErr_Format(PyExc_TypeError, "expected 7 arguments (got %zd)", given);
    Array a[4];
    Plain job = {.z = &a[0], .labels = &a[1], .share = (float)PyFloat_AsDouble(args[5])};
    job.ignore = PyErr_Occurred() ? 0 : PyLong_AsLongLong(args[4]);
    int seats = PyErr_Occurred() ? 0 : seats_of(args[6]);
    double sum = 0.0;
    if (!seats || !take_all(args, 4, a, wanted, 4)) return NULL;
    if (has_channels(a, "z") && has_rows(&a[1], "labels", a) && (!a[3].data || has_classes(&a[3], a)) &&
        (!a[2].data || has_shape(&a[2], "slopes", a->shape[0], a->shape[1], a->shape[2]))) {
        job.channels = a->shape[1];
        job.by_class = (float *)a[3].data;
        job.tiles = tiles_of(&a[0], a[2].data ? &a[2] : NULL, seats);
        if (job.tiles) sum = sum_of_pixels(plain_piece, &job, 4 * LEAST_WORK / job.channels, seats);
        let_all_go(job.tiles, seats);
    }
    return finish_with(a, 4, job.wrong, a->shape[1], PyFloat_FromDouble(sum));
}

/* weight_sum(labels, by_class, ignore_index, threads): the sum of the labels' weights */
static PyObject *weight_sum(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"labels", LABELS, 0}, {"by_class", FLOAT32, 0}};
    if (given != 4) return PyErr_Format(PyExc_TypeError, "expected 4 arguments (got %zd)", given);
    Array a[2];
    Plain job = {.labels = &a[0], .ignore = PyLong_AsLongLong(args[2])};
    int seats = PyErr_Occurred() ? 0 : seats_of(args[3]);
    double sum = 0.0;
    if (!seats || !take_all(args, 2, a, wanted, 2)) return NULL;
    job.channels = a[1].shape[2];
    job.by_class = (float *)a[1].data;
    if (has_shape(&a[0], "labels", 1, -1, -1) && has_shape(&a[1], "by_class", 1, 1, -1) && are_channels(job.channels, "by_class"))
        sum = sum_of_pixels(weight_piece, &job, 4 * LEAST_WORK, seats);
    return finish_with(a, 2, job.wrong, job.channels, PyFloat_FromDouble(sum));
}

/* through_softmax(z, slope, weights or None, out) */
static PyObject *through_softmax(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOAT32, 0}, {"slope", FLOAT32, 0}, {"out", FLOAT32, WRITTEN}, {"weights", FLOAT32, 0}};
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
                                    {"by_own", FLOAT32, 0}, {"weights", FLOAT32, 0},     {"out", FLOATS, WRITTEN}};
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
        {"z", FLOATS, 0}, {"index", INT32 | INT64, 0}, {"weights", FLOAT32, 0}, {"sums", FLOAT64, WRITTEN}};
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
        {"z", FLOAT32, 0}, {"near", BOOL, 0}, {"losses", FLOAT32, WRITTEN}, {"weights", FLOAT32, 0}, {"slopes", FLOAT32, WRITTEN}};
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
