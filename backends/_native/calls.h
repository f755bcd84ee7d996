/* What every call does: it takes its arrays, and lets them go with an error or a result. */

/* Takes the arguments of a call, in order: name, kinds, whether it is written to or may be None, which gives no data. Any failure
 * ends the call. */
enum Access { WRITTEN = 1, OPTIONAL = 2 };
typedef struct {
    const char *name;
    int kinds;
    int access;
} Wanted;

static int take_all(PyObject *const *args, Py_ssize_t given, Array *arrays, const Wanted *wanted, int count) {
    if (given != count) {
        PyErr_Format(PyExc_TypeError, "expected %d arrays (got %zd)", count, given);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        memset(&arrays[i], 0, sizeof arrays[i]);
        if (wanted[i].access & OPTIONAL && args[i] == Py_None) continue;
        if (take(args[i], &arrays[i], wanted[i].name, wanted[i].kinds, wanted[i].access & WRITTEN)) continue;
        while (--i >= 0) PyBuffer_Release(&arrays[i].view);
        return 0;
    }
    return 1;
}

/* Ends a call with `result`, unless there was an error: one is set, or `wrong` indices were not below `limit`. */
static PyObject *finish_with(Array *arrays, int count, int64_t wrong, int64_t limit, PyObject *result) {
    for (int i = 0; i < count; i++) PyBuffer_Release(&arrays[i].view);
    if (!PyErr_Occurred() && wrong)
        PyErr_Format(PyExc_IndexError, "%lld indices are not in [0, %lld)", (long long)wrong, (long long)limit);
    if (!PyErr_Occurred()) return result;
    Py_XDECREF(result);
    return NULL;
}

static PyObject *finish_indexed(Array *arrays, int count, int64_t wrong, int64_t limit) {
    return finish_with(arrays, count, wrong, limit, Py_NewRef(Py_None));
}

static PyObject *finish(Array *arrays, int count) { return finish_indexed(arrays, count, 0, 0); }

/* Whether all have the shape of the first. */
static int have_one_shape(const Array *arrays, const Wanted *wanted, int count) {
    for (int i = 1; i < count; i++)
        if (!has_shape(&arrays[i], wanted[i].name, arrays->shape[0], arrays->shape[1], arrays->shape[2])) return 0;
    return 1;
}

static int are_contiguous(const Array *arrays, const Wanted *wanted, int count) {
    for (int i = 0; i < count; i++)
        if (!is_contiguous(&arrays[i], wanted[i].name)) return 0;
    return 1;
}

#define IMAGE(array, type, n) ((type *)(array).data + (n) * (array).step[0])
#define ROW(array, type, n) ((type *)(array).data + (n) * (array).step[1])
#define INDEX_AT(array, n, i) ((array).data + ((n) * (array).step[1] + (i)) * (array).view.itemsize)

static int has_rows(const Array *array, const char *name, const Array *of) {
    return has_shape(array, name, 1, of->shape[0], of->shape[2]);
}

/* One number a channel. */
static int has_classes(const Array *array, const Array *of) { return has_shape(array, "by_class", 1, 1, of->shape[1]); }

/* The loops begin with the first channel. */
static int are_channels(int64_t channels, const char *name) {
    if (channels == 0) PyErr_Format(PyExc_ValueError, "%s has no channels", name);
    return channels != 0;
}

static int has_channels(const Array *array, const char *name) { return are_channels(array->shape[1], name); }

/* What loops that share themselves out have in common. */

/* A piece is this much work, in elements of a loss of one channel, or an image or a row that has less: 20 to 60 microseconds, so
 * that a thread which comes late finds some left. Of much work there are as many pieces, and larger ones: neighbours in memory
 * are best read by one thread. Neither depends on the number of threads, nor does the order of the sums.
 */
#define LEAST_WORK (32 * BLOCK)
#define PIECES 64

/* Whole blocks, one at least. */
static int64_t piece_of(int64_t elements, int64_t least) {
    int64_t even = elements / PIECES > least ? elements / PIECES : least;
    return (even < BLOCK ? 1 : (even + BLOCK - 1) / BLOCK) * BLOCK;
}

static int64_t pieces_of(int64_t elements, int64_t step) { return (elements + step - 1) / step; }

/* Pixels (images, pixels) in pieces of `step`, none of which is of two images. */
typedef struct {
    int64_t pixels, step, per_image, pieces;
} Division;

typedef struct {
    int64_t n, start, end;
} Span;

static Division division_of(int64_t images, int64_t pixels, int64_t least) {
    Division all = {.pixels = pixels, .step = piece_of(images * pixels, least)};
    all.per_image = pieces_of(pixels, all.step);
    all.pieces = images * all.per_image;
    return all;
}

static Span span_of(const Division *all, int64_t piece) {
    Span span = {.n = piece / all->per_image, .start = piece % all->per_image * all->step};
    span.end = all->pixels - span.start < all->step ? all->pixels : span.start + all->step;
    return span;
}

/* An argument that says how many threads may share a loop, which are there then; 0 and an error where they are not. */
static int seats_of(PyObject *threads) {
    long count = PyLong_AsLong(threads);
    return PyErr_Occurred() ? 0 : team_of(count > MOST_THREADS ? MOST_THREADS : (int)(count < 0 ? 0 : count));
}

/* How many of them find a piece: room for more would be for nothing. */
static int seats_with_work(int seats, int64_t pieces) { return pieces < 1 ? 1 : pieces < seats ? (int)pieces : seats; }

/* Room for so many sums, to be let go; or an error is set. */
static double *sums_of(int64_t pieces) {
    double *sums = PyMem_Calloc((size_t)pieces + 1, sizeof(double));
    if (!sums) PyErr_NoMemory();
    return sums;
}

/* In the order of the pieces, whoever did them; lets them go. */
static double added(double *sums, int64_t pieces) {
    double sum = 0.0;
    for (int64_t piece = 0; piece < pieces; piece++) sum += sums[piece];
    PyMem_Free(sums);
    return sum;
}

static void *entry(const Array *array, int64_t i) { return array->data + i * array->view.itemsize; }
