/* Calls of the loops over elements, each for itself. */

/* softplus_and_sigmoid(x, above, rising) */
static PyObject *softplus_and_sigmoid(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0}, {"above", FLOAT32, WRITTEN}, {"rising", FLOAT32, WRITTEN}};
    Array a[3];
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    if (are_contiguous(a, wanted, 3) && have_one_shape(a, wanted, 3)) {
        Py_BEGIN_ALLOW_THREADS
        loops->softplus_and_sigmoid((float *)a[0].data, (float *)a[1].data, (float *)a[2].data, size_of(&a[0]));
        Py_END_ALLOW_THREADS
    }
    return finish(a, 3);
}

typedef struct {
    const Array *arrays;
    float other;
    int64_t step;
} Choice;

static void choice_piece(void *data, int64_t piece, int seat) {
    const Choice *job = data;
    int64_t start = piece * job->step, left = size_of(job->arrays) - start;
    loops->keep_where((uint8_t *)job->arrays[0].data + start, (float *)job->arrays[1].data + start, job->other,
                      (float *)job->arrays[2].data + start, left < job->step ? left : job->step);
}

/* keep_where(mask, x, out, other, threads): x where the mask holds, else the number; contiguous */
static PyObject *keep_where(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"mask", BOOL, 0}, {"x", FLOAT32, 0}, {"out", FLOAT32, WRITTEN}};
    if (given != 5) return PyErr_Format(PyExc_TypeError, "expected 5 arguments (got %zd)", given);
    Array a[3];
    Choice job = {.arrays = a, .other = (float)PyFloat_AsDouble(args[3])};
    int seats = PyErr_Occurred() ? 0 : seats_of(args[4]);
    if (!seats || !take_all(args, 3, a, wanted, 3)) return NULL;
    if (are_contiguous(a, wanted, 3) && have_one_shape(a, wanted, 3)) {
        /* Eight are chosen in the time that one element of a loss takes. */
        job.step = piece_of(size_of(a), 8 * LEAST_WORK);
        Py_BEGIN_ALLOW_THREADS
        share_out(choice_piece, &job, pieces_of(size_of(a), job.step), seats);
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
    static const Wanted wanted[] = {{"x", UINT16 | FLOAT16, 0}, {"out", FLOAT32, WRITTEN}};
    return convert(args, given, wanted, 0);
}

static PyObject *narrow(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0}, {"out", UINT16 | FLOAT16, WRITTEN}};
    return convert(args, given, wanted, 1);
}

/* split_labels(labels, index, valid, ignore_index), contiguous */
static PyObject *split_labels(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {
        {"labels", INT64 | INT32 | INT16 | UINT8, 0}, {"index", INT32, WRITTEN}, {"valid", BOOL, WRITTEN}};
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

/* Of z, labels and, if it is wanted, a place for slopes: of one shape. bfloat16 comes as its bits. */
static const Wanted ELEMENTS[] = {{"z", FLOATS, 0}, {"labels", FLOATS | INT64 | INT32 | UINT8, 0}, {"slopes", FLOATS, WRITTEN | OPTIONAL}};

static int take_elements(PyObject *const *args, Array *a, int *count) {
    if (!take_all(args, 3, a, ELEMENTS, 3)) return 0;
    *count = a[2].data ? 3 : 2;
    int fits = have_one_shape(a, ELEMENTS, *count);
    if (fits && *count == 3 && a[2].kind != a[0].kind) {
        PyErr_SetString(PyExc_ValueError, "slopes has a dtype other than that of z");
        fits = 0;
    }
    if (!fits) finish(a, *count);
    return fits;
}

#define COUNTED (FLOAT32 | INT64 | INT32 | INT16 | UINT8)

static void count_labels(const void *labels, int kind, double ignore, int masks, double most, Atomic *counts, int64_t count) {
    int64_t found[4] = {0};
    loops->tally(labels, kind, ignore, masks, most, found, count);
    for (int i = 0; i < 4; i++) (void)ADD(&counts[i], found[i]);
}

/* Loops over elements, shared out row by row, or as one row where all arrays lie in one piece: of each piece a sum. */
typedef struct {
    const Array *arrays;
    const float *by;
    double ignore, most, *sums;
    int64_t row, step, per_row;
    /* What `tally` counts, where that is wanted; or how many labels do not count. */
    Atomic *counts;
    int count, masks, squares;
} Elements;

/* What a loop gets of one piece; no slopes where none are wanted. */
typedef struct {
    void *z, *labels, *slopes;
    int64_t count;
} Stretch;

static void *place_in(const Array *array, int64_t row, int64_t start) {
    int64_t n = row / array->shape[1], c = row % array->shape[1];
    return entry(array, n * array->step[0] + c * array->step[1] + start);
}

static Stretch elements_of(const Elements *job, int64_t piece) {
    int64_t row = piece / job->per_row, start = piece % job->per_row * job->step, left = job->row - start;
    Stretch found = {.z = place_in(&job->arrays[0], row, start), .labels = place_in(&job->arrays[1], row, start)};
    if (job->count == 3) found.slopes = place_in(&job->arrays[2], row, start);
    found.count = left < job->step ? left : job->step;
    return found;
}

static void binary_piece(void *data, int64_t piece, int seat) {
    const Elements *job = data;
    Stretch p = elements_of(job, piece);
    int kind = job->arrays[1].kind;
    /* First, while they come from memory: the loop after it has them in a cache. */
    if (job->counts) count_labels(p.labels, kind, job->ignore, 1, job->most, job->counts, p.count);
    job->sums[piece] = loops->binary_cross_entropy(p.z, job->arrays[0].kind, p.labels, kind, job->ignore, job->by, p.slopes, p.count);
}

static void difference_piece(void *data, int64_t piece, int seat) {
    const Elements *job = data;
    Stretch p = elements_of(job, piece);
    int64_t left_out = 0;
    job->sums[piece] = loops->differences(p.z, job->arrays[0].kind, p.labels, job->arrays[1].kind, job->ignore, job->masks,
                                          job->squares, *job->by, p.slopes, p.count, &left_out);
    if (left_out) (void)ADD(job->counts, left_out);
}

/* Takes the arrays, the labels of some kinds alone, does the work, and returns the sum. */
static PyObject *over_elements(PyObject *const *args, int kinds, Work work, Elements *job, PyObject *threads) {
    Array a[3];
    int seats = seats_of(threads), whole = 1;
    if (!seats || !take_elements(args, a, &job->count)) return NULL;
    if (!(a[1].kind & kinds)) {
        PyErr_SetString(PyExc_ValueError, "labels has a dtype that this operation does not take");
        return finish(a, job->count);
    }
    for (int i = 0; i < job->count; i++) whole &= lies_in_one_piece(&a[i]);
    job->arrays = a;
    job->row = whole ? size_of(a) : a->shape[2];
    job->step = piece_of(size_of(a), LEAST_WORK);
    job->per_row = pieces_of(job->row, job->step);
    int64_t pieces = job->row ? size_of(a) / job->row * job->per_row : 0;
    double sum = 0.0;
    job->sums = sums_of(pieces);
    if (job->sums) {
        Py_BEGIN_ALLOW_THREADS
        share_out(work, job, pieces, seats);
        Py_END_ALLOW_THREADS
        sum = added(job->sums, pieces);
    }
    return finish_with(a, job->count, 0, 0, PyFloat_FromDouble(sum));
}

/* binary_cross_entropy(z, labels, slopes or None, ignore_index, v, w, p, share, threads, most or None): the sum, and where there is
 * a largest label a tuple of what `tally` counts, else None */
static PyObject *binary_cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    if (given != 10) return PyErr_Format(PyExc_TypeError, "expected 10 arguments (got %zd)", given);
    float by[4];
    Atomic counts[4] = {0};
    Elements job = {.by = by, .ignore = label_of(args[3]), .masks = 1};
    for (int i = 0; i < 4; i++) by[i] = (float)PyFloat_AsDouble(args[4 + i]);
    if (args[9] != Py_None && !PyErr_Occurred()) {
        job.most = label_of(args[9]);
        job.counts = counts;
    }
    PyObject *sum = PyErr_Occurred() ? NULL : over_elements(args, job.counts ? COUNTED : ~0, binary_piece, &job, args[8]);
    if (!sum) return NULL;
    if (!job.counts) return Py_BuildValue("(NO)", sum, Py_None);
    return Py_BuildValue("(N(LLLL))", sum, (long long)counts[0], (long long)counts[1], (long long)counts[2], (long long)counts[3]);
}

/* differences(z, labels, slopes or None, ignore_index or None, squares, by, threads): the sum, and how many labels do not count */
static PyObject *differences(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    if (given != 7) return PyErr_Format(PyExc_TypeError, "expected 7 arguments (got %zd)", given);
    float by = (float)PyFloat_AsDouble(args[5]);
    Atomic left_out = 0;
    Elements job = {.by = &by, .counts = &left_out, .masks = args[3] != Py_None, .squares = PyObject_IsTrue(args[4])};
    if (job.masks && !PyErr_Occurred()) job.ignore = label_of(args[3]);
    PyObject *sum = PyErr_Occurred() ? NULL : over_elements(args, ~0, difference_piece, &job, args[6]);
    return sum ? Py_BuildValue("(NL)", sum, (long long)left_out) : NULL;
}

typedef struct {
    const Array *labels;
    Atomic *counts;
    double ignore, most;
    int64_t step;
    int masks;
} Tally;

static void tally_piece(void *data, int64_t piece, int seat) {
    const Tally *job = data;
    int64_t left = size_of(job->labels) - piece * job->step;
    count_labels(entry(job->labels, piece * job->step), job->labels->kind, job->ignore, job->masks, job->most, job->counts,
                 left < job->step ? left : job->step);
}

/* tally(labels, counts, ignore_index or None, most, threads): counts (4,) int64 are added to */
static PyObject *tally(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"labels", COUNTED, 0}, {"counts", INT64, WRITTEN}};
    Array a[2];
    if (given != 5) return PyErr_Format(PyExc_TypeError, "expected 5 arguments (got %zd)", given);
    Tally job = {.masks = args[2] != Py_None};
    job.ignore = job.masks ? label_of(args[2]) : 0.0;
    job.most = PyErr_Occurred() ? 0.0 : label_of(args[3]);
    int seats = PyErr_Occurred() ? 0 : seats_of(args[4]);
    if (!seats || !take_all(args, 2, a, wanted, 2)) return NULL;
    if (is_contiguous(&a[0], "labels") && has_shape(&a[1], "counts", 1, 1, 4)) {
        job.labels = &a[0];
        job.counts = (Atomic *)a[1].data;
        /* Four are counted in the time that one element of a loss takes. */
        job.step = piece_of(size_of(a), 4 * LEAST_WORK);
        Py_BEGIN_ALLOW_THREADS
        share_out(tally_piece, &job, pieces_of(size_of(a), job.step), seats);
        Py_END_ALLOW_THREADS
    }
    return finish(a, 2);
}
