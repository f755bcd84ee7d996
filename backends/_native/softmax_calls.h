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

/* Loops over labels and their classes, shared out: of each piece a sum. Without `z` it is of the labels' weights alone. */
typedef struct {
    const Array *z, *labels;
    Tile *tiles;
    const float *by_class;
    int64_t ignore, channels;
    Division all;
    float share;
    double *sums;
    Atomic wrong;
} Plain;

static void plain_piece(void *data, int64_t piece, int seat) {
    Plain *job = data;
    const Array *labels = job->labels;
    Span span = span_of(&job->all, piece);
    int64_t wrong = 0;
    Tile *t = &job->tiles[seat];
    t->start = span.start;
    while (next_tile_before(t, span.n, span.end)) {
        wrong += loops->plain_cross_entropy(t->z, t->z_step, INDEX_AT(*labels, span.n, t->start), labels->kind, job->ignore,
                                            job->by_class, job->share, t->out, t->out_step, job->channels, t->count,
                                            &job->sums[piece]);
        close_tile(t, span.n);
    }
    if (wrong) (void)ADD(&job->wrong, wrong);
}

static void weight_piece(void *data, int64_t piece, int seat) {
    Plain *job = data;
    const Array *labels = job->labels;
    Span span = span_of(&job->all, piece);
    int64_t wrong = loops->weight_sum(INDEX_AT(*labels, span.n, span.start), labels->kind, job->ignore, job->by_class, job->channels,
                                      span.end - span.start, &job->sums[piece]);
    if (wrong) (void)ADD(&job->wrong, wrong);
}

/* Into pieces of about so many pixels. */
static Division by_pixels(const Array *labels, int64_t least) { return division_of(labels->shape[1], labels->shape[2], least); }

/* Shares out the pieces, and returns the sum; or an error is set. */
static double sum_of_pixels(Work work, Plain *job, int seats) {
    job->sums = sums_of(job->all.pieces);
    if (!job->sums) return 0.0;
    Py_BEGIN_ALLOW_THREADS
    share_out(work, job, job->all.pieces, seats);
    Py_END_ALLOW_THREADS
    return added(job->sums, job->all.pieces);
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
        job.all = by_pixels(&a[1], 4 * LEAST_WORK / job.channels);
        seats = seats_with_work(seats, job.all.pieces);
        job.tiles = tiles_of(&a[0], a[2].data ? &a[2] : NULL, seats);
        if (job.tiles) sum = sum_of_pixels(plain_piece, &job, seats);
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
    if (has_shape(&a[0], "labels", 1, -1, -1) && has_shape(&a[1], "by_class", 1, 1, -1) && are_channels(job.channels, "by_class")) {
        job.all = by_pixels(&a[0], 4 * LEAST_WORK);
        sum = sum_of_pixels(weight_piece, &job, seats);
    }
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

/* Loops over pixels and their classes, shared out; arrays as their calls take them. `powers` is room for each thread, `sums` for
 * what each piece of a larger image sums up. */
typedef struct Classes Classes;

/* Does one tile of image n for a piece; the number of indices that are no class. */
typedef int64_t (*OnTile)(const Classes *job, const Tile *t, int64_t n, int64_t piece, int seat);

struct Classes {
    OnTile loop;
    const Array *arrays;
    Tile *tiles;
    float *powers;
    double *sums;
    Division all;
    Atomic wrong;
};

static void class_piece(void *data, int64_t piece, int seat) {
    Classes *job = data;
    Span span = span_of(&job->all, piece);
    int64_t wrong = 0;
    Tile *t = &job->tiles[seat];
    t->start = span.start;
    while (next_tile_before(t, span.n, span.end)) {
        wrong += job->loop(job, t, span.n, piece, seat);
        close_tile(t, span.n);
    }
    if (wrong) (void)ADD(&job->wrong, wrong);
}

static int64_t by_class_tile(const Classes *job, const Tile *t, int64_t n, int64_t piece, int seat) {
    const Array *a = job->arrays;
    return loops->through_softmax_by_class(t->z, t->z_step, INDEX_AT(a[1], n, t->start), a[1].kind, ROW(a[2], float, n),
                                           ROW(a[3], float, n), ROW(a[4], float, n) + t->start, t->out, t->out_step, a->shape[1],
                                           t->count);
}

/* Three sums of each class, so far from those of the next piece that no two threads write to one line of a cache. */
static int64_t apart(int64_t channels) { return 3 * channels + 16; }

/* Where a piece puts its sums: with the result itself where it is all of image n. */
static double *totals_of(const Classes *job, int64_t n, int64_t piece) {
    int64_t channels = job->arrays->shape[1];
    return job->sums ? job->sums + piece * apart(channels) : (double *)job->arrays[3].data + 3 * channels * n;
}

static int64_t totals_tile(const Classes *job, const Tile *t, int64_t n, int64_t piece, int seat) {
    const Array *a = job->arrays;
    int64_t channels = a->shape[1];
    double *sums = totals_of(job, n, piece);
    return loops->softmax_totals(t->z, t->z_step, INDEX_AT(a[1], n, t->start), a[1].kind, ROW(a[2], float, n) + t->start,
                                 job->powers + seat * channels * BLOCK, sums, sums + channels, sums + 2 * channels, channels,
                                 t->count);
}

/* With tiles of the first array, and of `out` if there is one; an error may be set. */
static void over_classes(OnTile loop, Classes *job, const Array *out, int seats) {
    job->loop = loop;
    seats = seats_with_work(seats, job->all.pieces);
    job->tiles = tiles_of(job->arrays, out, seats);
    if (job->tiles) {
        Py_BEGIN_ALLOW_THREADS
        share_out(class_piece, job, job->all.pieces, seats);
        Py_END_ALLOW_THREADS
    }
    let_all_go(job->tiles, seats);
}

static Division by_channels(const Array *z) { return division_of(z->shape[0], z->shape[2], 4 * LEAST_WORK / z->shape[1]); }

static int64_t cross_entropy_tile(const Classes *job, const Tile *t, int64_t n, int64_t piece, int seat) {
    const Array *a = job->arrays;
    return loops->cross_entropy(t->z, t->z_step, INDEX_AT(a[1], n, t->start), a[1].kind, ROW(a[2], float, n) + t->start,
                                a[4].data ? ROW(a[3], float, n) + t->start : NULL, t->out, t->out_step, a->shape[1], t->count);
}

/* cross_entropy(z, index, losses, weights, slopes, threads); no slopes without weights: both may be None */
static PyObject *cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOATS, 0},
                                    {"index", INT32 | INT64, 0},
                                    {"losses", FLOAT32, WRITTEN},
                                    {"weights", FLOAT32, OPTIONAL},
                                    {"slopes", FLOATS, WRITTEN | OPTIONAL}};
    if (given != 6) return PyErr_Format(PyExc_TypeError, "expected 6 arguments (got %zd)", given);
    Array a[5];
    Classes job = {.arrays = a};
    int seats = seats_of(args[5]);
    if (!seats || !take_all(args, 5, a, wanted, 5)) return NULL;
    if (!a[3].data != !a[4].data)
        PyErr_SetString(PyExc_ValueError, "weights and slopes come together or not at all");
    else if (has_channels(a, "z") && has_rows(&a[1], "index", a) && has_rows(&a[2], "losses", a) &&
             (!a[3].data || has_rows(&a[3], "weights", a)) &&
             (!a[4].data || has_shape(&a[4], "slopes", a[0].shape[0], a[0].shape[1], a[0].shape[2]))) {
        job.all = by_channels(a);
        over_classes(cross_entropy_tile, &job, a[4].data ? &a[4] : NULL, seats);
    }
    return finish_indexed(a, 5, job.wrong, a[0].shape[1]);
}

/* through_softmax_by_class(z, index, by_class, by_own, weights, out, threads): the two in the middle (N, C) */
static PyObject *through_softmax_by_class(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOATS, 0},       {"index", INT32 | INT64, 0}, {"by_class", FLOAT32, 0},
                                    {"by_own", FLOAT32, 0}, {"weights", FLOAT32, 0},     {"out", FLOATS, WRITTEN}};
    if (given != 7) return PyErr_Format(PyExc_TypeError, "expected 7 arguments (got %zd)", given);
    Array a[6];
    Classes job = {.arrays = a};
    int seats = seats_of(args[6]);
    if (!seats || !take_all(args, 6, a, wanted, 6)) return NULL;
    int64_t images = a->shape[0], channels = a->shape[1];
    if (has_channels(a, "z") && has_rows(&a[1], "index", a) && has_shape(&a[2], "by_class", 1, images, channels) &&
        has_shape(&a[3], "by_own", 1, images, channels) && has_rows(&a[4], "weights", a) &&
        has_shape(&a[5], "out", images, channels, a->shape[2])) {
        job.all = by_channels(a);
        over_classes(by_class_tile, &job, &a[5], seats);
    }
    return finish_indexed(a, 6, job.wrong, channels);
}

/* softmax_totals(z, index, weights, sums, threads): sums (N, 3, C) float64 are added to */
static PyObject *softmax_totals(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {
        {"z", FLOATS, 0}, {"index", INT32 | INT64, 0}, {"weights", FLOAT32, 0}, {"sums", FLOAT64, WRITTEN}};
    if (given != 5) return PyErr_Format(PyExc_TypeError, "expected 5 arguments (got %zd)", given);
    Array a[4];
    Classes job = {.arrays = a};
    int seats = seats_of(args[4]);
    if (!seats || !take_all(args, 4, a, wanted, 4)) return NULL;
    int64_t channels = a->shape[1];
    if (has_channels(a, "z") && has_rows(&a[1], "index", a) && has_rows(&a[2], "weights", a) && is_contiguous(&a[3], "sums") &&
        has_shape(&a[3], "sums", a->shape[0], 3, channels)) {
        job.all = by_channels(a);
        job.powers = block_room(channels * seats_with_work(seats, job.all.pieces));
        int whole = job.all.per_image <= 1;
        if (job.powers && !whole) job.sums = sums_of(job.all.pieces * apart(channels));
        if (job.powers && (whole || job.sums)) over_classes(totals_tile, &job, NULL, seats);
        /* In the order of the pieces, whoever did them. */
        for (int64_t piece = 0; job.sums && piece < job.all.pieces; piece++)
            for (int64_t i = 0; i < 3 * channels; i++)
                ((double *)a[3].data)[span_of(&job.all, piece).n * 3 * channels + i] += job.sums[piece * apart(channels) + i];
        PyMem_Free(job.sums);
        PyMem_Free(job.powers);
    }
    return finish_indexed(a, 4, job.wrong, channels);
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
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[0]; n++)
            loops->relaxed_cross_entropy(IMAGE(a[0], float, n), a[0].step[1], IMAGE(a[1], uint8_t, n), a[1].step[1],
                                         ROW(a[2], float, n), slopes ? ROW(a[3], float, n) : NULL,
                                         slopes ? IMAGE(a[4], float, n) : NULL, slopes ? a[4].step[1] : 0, a[0].shape[1],
                                         a[0].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish(a, count);
}
