/* Arrays as the buffer protocol hands them over, checked before any loop sees them. */

#define MOST_AXES 3

enum Kind { FLOAT32 = 1, FLOAT64 = 2, INT8 = 4, UINT8 = 8, INT16 = 16, INT32 = 32, INT64 = 64, UINT64 = 128, BOOL = 256, UINT16 = 512, FLOAT16 = 1024 };

typedef struct {
    Py_buffer view;
    char *data;
    int kind;
    /* Leading axes of length 1 are put before an array of fewer axes. */
    int64_t shape[MOST_AXES];
    /* In entries. */
    int64_t step[MOST_AXES];
} Array;

static int kind_of(const Py_buffer *view) {
    const char *format = view->format ? view->format : "B";
    /* NumPy writes the machine's own order out for a dtype that names it; '=' it writes for memory that is not aligned. */
    if (*format == '@' || *format == (PY_BIG_ENDIAN ? '>' : '<')) format++;
    if (format[0] == '\0' || format[1] != '\0') return 0;
    Py_ssize_t size = view->itemsize;
    switch (*format) {
    case 'f':
        return size == 4 ? FLOAT32 : 0;
    case 'e':
        return size == 2 ? FLOAT16 : 0;
    case 'd':
        return size == 8 ? FLOAT64 : 0;
    case '?':
        return size == 1 ? BOOL : 0;
    case 'b':
    case 'h':
    case 'i':
    case 'l':
    case 'q':
        return size == 1 ? INT8 : size == 2 ? INT16 : size == 4 ? INT32 : size == 8 ? INT64 : 0;
    case 'B':
        return size == 1 ? UINT8 : 0;
    case 'H':
        return size == 2 ? UINT16 : 0;
    case 'L':
    case 'Q':
        return size == 8 ? UINT64 : 0;
    default:
        return 0;
    }
}

/* Fills `array` and returns 1; or sets an error and returns 0, with nothing to release. */
static int take(PyObject *object, Array *array, const char *name, int kinds, int writable) {
    if (PyObject_GetBuffer(object, &array->view, PyBUF_STRIDES | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return 0;
    Py_buffer *view = &array->view;
    array->data = view->buf;
    array->kind = kind_of(view);
    const char *wrong = NULL;
    if (!(array->kind & kinds)) wrong = "has a dtype that this operation does not take";
    if (view->ndim < 1 || view->ndim > MOST_AXES) wrong = "must have 1 to 3 axes";
    for (int axis = 0; !wrong && axis < MOST_AXES; axis++) {
        int from = axis - (MOST_AXES - view->ndim);
        array->shape[axis] = from < 0 ? 1 : view->shape[from];
        array->step[axis] = 0;
        if (array->shape[axis] == 1) continue;
        if (view->strides[from] % view->itemsize) wrong = "has strides that are no whole entries";
        array->step[axis] = view->strides[from] / view->itemsize;
        if (axis == MOST_AXES - 1 && array->step[axis] != 1) wrong = "must be contiguous along its last axis";
    }
    if (!wrong && (uintptr_t)array->data % (uintptr_t)view->itemsize) wrong = "is not aligned";
    if (!wrong) return 1;
    PyErr_Format(PyExc_ValueError, "%s %s", name, wrong);
    PyBuffer_Release(view);
    return 0;
}

/* Whether the lengths are these; -1 stands for any. */
static int has_shape(const Array *array, const char *name, int64_t first, int64_t second, int64_t third) {
    const int64_t wanted[MOST_AXES] = {first, second, third};
    for (int axis = 0; axis < MOST_AXES; axis++) {
        if (wanted[axis] >= 0 && array->shape[axis] != wanted[axis]) {
            PyErr_Format(PyExc_ValueError, "%s has length %lld on axis %d, expected %lld", name, (long long)array->shape[axis],
                         axis - MOST_AXES, (long long)wanted[axis]);
            return 0;
        }
    }
    return 1;
}

/* A label to compare with, which loops convert to the labels' dtype; or an error is set. */
static double label_of(PyObject *number) {
    double label = PyFloat_AsDouble(number);
    if (!PyErr_Occurred() && !(label > -9007199254740992.0 && label < 9007199254740992.0))
        PyErr_SetString(PyExc_ValueError, "a label must lie between -2^53 and 2^53");
    return label;
}

static int64_t size_of(const Array *array) { return array->shape[0] * array->shape[1] * array->shape[2]; }

static int lies_in_one_piece(const Array *array) {
    int64_t expected = 1;
    for (int axis = MOST_AXES - 1; axis >= 0; axis--) {
        if (array->shape[axis] != 1 && array->step[axis] != expected) return 0;
        expected *= array->shape[axis];
    }
    return 1;
}

static int is_contiguous(const Array *array, const char *name) {
    int fits = lies_in_one_piece(array);
    if (!fits) PyErr_Format(PyExc_ValueError, "%s must be contiguous", name);
    return fits;
}
