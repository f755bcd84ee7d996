/* Operations of the NumPy backend in one pass where NumPy needs several: arrays come in by the buffer protocol, the
 * interpreter's lock is let go while a loop runs. What each computes stands in the backend's fallback of the same name.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "arrays.h"
#include "labels.h"
#include "sets.h"

static const Loops *available[3];
static int available_count;
static const Loops *loops;

/* Takes the arguments of a call, in order: name, kinds, whether it is written to. Any failure ends the call. */
typedef struct {
    const char *name;
    int kinds;
    int writable;
} Wanted;

static int take_all(PyObject *const *args, Py_ssize_t given, Array *arrays, const Wanted *wanted, int count) {
    if (given != count) {
        PyErr_Format(PyExc_TypeError, "expected %d arrays (got %zd)", count, given);
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (take(args[i], &arrays[i], wanted[i].name, wanted[i].kinds, wanted[i].writable)) continue;
        while (--i >= 0) PyBuffer_Release(&arrays[i].view);
        return 0;
    }
    return 1;
}

/* Indices must be below `limit`; `wrong` of them were not. */
static PyObject *finish_indexed(Array *arrays, int count, int64_t wrong, int64_t limit) {
    for (int i = 0; i < count; i++) PyBuffer_Release(&arrays[i].view);
    if (PyErr_Occurred()) return NULL;
    if (wrong) {
        PyErr_Format(PyExc_IndexError, "%lld indices are not in [0, %lld)", (long long)wrong, (long long)limit);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *finish(Array *arrays, int count) { return finish_indexed(arrays, count, 0, 0); }

#define IMAGE(array, type, n) ((type *)(array).data + (n) * (array).step[0])
#define ROW(array, type, n) ((type *)(array).data + (n) * (array).step[1])
#define INDEX_ROW(array, n) ((array).data + (n) * (array).step[1] * (array).view.itemsize)

static int has_rows(const Array *array, const char *name, const Array *of) {
    return has_shape(array, name, 1, of->shape[0], of->shape[2]);
}

/* The loops begin with the first channel. */
static int has_channels(const Array *array, const char *name) {
    if (array->shape[1] == 0) PyErr_Format(PyExc_ValueError, "%s has no channels", name);
    return array->shape[1] != 0;
}

/* softmax_parts(z, powers, norm, top) and softmax_sums(z, norm, top) */
static PyObject *softmax(Array *a, Array *powers, Array *norm, Array *top, int count) {
    if (has_channels(a, "z") && has_rows(norm, "norm", a) && has_rows(top, "top", a) &&
        (!powers || has_shape(powers, "powers", a->shape[0], a->shape[1], a->shape[2]))) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a->shape[0]; n++)
            loops->softmax_parts(IMAGE(*a, float, n), a->step[1], powers ? IMAGE(*powers, float, n) : NULL,
                                 powers ? powers->step[1] : 0, ROW(*norm, float, n), ROW(*top, float, n), a->shape[1],
                                 a->shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish(a, count);
}

static PyObject *softmax_parts(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOAT32, 0}, {"powers", FLOAT32, 1}, {"norm", FLOAT32, 1}, {"top", FLOAT32, 1}};
    Array a[4];
    return take_all(args, given, a, wanted, 4) ? softmax(a, &a[1], &a[2], &a[3], 4) : NULL;
}

static PyObject *softmax_sums(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOAT32, 0}, {"norm", FLOAT32, 1}, {"top", FLOAT32, 1}};
    Array a[3];
    return take_all(args, given, a, wanted, 3) ? softmax(a, NULL, &a[1], &a[2], 3) : NULL;
}

/* softplus_and_sigmoid(x, above, rising) */
static PyObject *softplus_and_sigmoid(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"x", FLOAT32, 0}, {"above", FLOAT32, 1}, {"rising", FLOAT32, 1}};
    Array a[3];
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    int fits = is_contiguous(&a[0], "x");
    for (int i = 1; fits && i < 3; i++)
        fits = is_contiguous(&a[i], wanted[i].name) &&
               has_shape(&a[i], wanted[i].name, a[0].shape[0], a[0].shape[1], a[0].shape[2]);
    if (fits) {
        Py_BEGIN_ALLOW_THREADS
        loops->softplus_and_sigmoid((float *)a[0].data, (float *)a[1].data, (float *)a[2].data, size_of(&a[0]));
        Py_END_ALLOW_THREADS
    }
    return finish(a, 3);
}

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

/* split_labels(labels, index, valid, ignore_index), contiguous */
static PyObject *split_labels(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {
        {"labels", INT64 | INT32 | INT16 | UINT8, 0}, {"index", INT32, 1}, {"valid", BOOL, 1}};
    Array a[3];
    if (given != 4) return PyErr_Format(PyExc_TypeError, "expected 4 arguments (got %zd)", given);
    long long ignore = PyLong_AsLongLong(args[3]);
    if (PyErr_Occurred() || !take_all(args, 3, a, wanted, 3)) return NULL;
    int fits = 1;
    for (int i = 0; fits && i < 3; i++)
        fits = is_contiguous(&a[i], wanted[i].name) &&
               has_shape(&a[i], wanted[i].name, a[0].shape[0], a[0].shape[1], a[0].shape[2]);
    if (fits) {
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

/* cross_entropy(z, index, losses) or cross_entropy(z, index, losses, weights, slopes) */
static PyObject *cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"z", FLOAT32, 0},
                                    {"index", INT32 | INT64, 0},
                                    {"losses", FLOAT32, 1},
                                    {"weights", FLOAT32, 0},
                                    {"slopes", FLOAT32, 1}};
    Array a[5];
    int count = given == 3 ? 3 : 5, slopes = count == 5;
    int64_t wrong = 0;
    if (!take_all(args, given, a, wanted, count)) return NULL;
    if (has_channels(a, "z") && has_rows(&a[1], "index", a) && has_rows(&a[2], "losses", a) &&
        (!slopes || has_rows(&a[3], "weights", a)) &&
        (!slopes || has_shape(&a[4], "slopes", a[0].shape[0], a[0].shape[1], a[0].shape[2]))) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[0]; n++)
            wrong += loops->cross_entropy(IMAGE(a[0], float, n), a[0].step[1], INDEX_ROW(a[1], n), a[1].kind,
                                          ROW(a[2], float, n), slopes ? ROW(a[3], float, n) : NULL,
                                          slopes ? IMAGE(a[4], float, n) : NULL, slopes ? a[4].step[1] : 0, a[0].shape[1],
                                          a[0].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish_indexed(a, count, wrong, a[0].shape[1]);
}

/* Of z, labels and, if it is wanted, a place for slopes: contiguous, and of one length. */
static const Wanted ELEMENTS[] = {{"z", FLOAT32, 0}, {"labels", FLOAT32 | INT64 | INT32 | UINT8, 0}, {"slopes", FLOAT32, 1}};

static int take_elements(PyObject *const *args, Array *a, int *count) {
    *count = args[2] == Py_None ? 2 : 3;
    if (!take_all(args, *count, a, ELEMENTS, *count)) return 0;
    for (int i = 0; i < *count; i++) {
        if (is_contiguous(&a[i], ELEMENTS[i].name) &&
            has_shape(&a[i], ELEMENTS[i].name, a[0].shape[0], a[0].shape[1], a[0].shape[2]))
            continue;
        finish(a, *count);
        return 0;
    }
    return 1;
}

static PyObject *finish_sum(Array *arrays, int count, double sum) {
    PyObject *none = finish(arrays, count);
    if (!none) return NULL;
    Py_DECREF(none);
    return PyFloat_FromDouble(sum);
}

/* binary_cross_entropy(z, labels, slopes or None, ignore_index, v, w, f, g, s, t): the sum */
static PyObject *binary_cross_entropy(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    if (given != 10) return PyErr_Format(PyExc_TypeError, "expected 10 arguments (got %zd)", given);
    float by[6];
    double ignore = PyFloat_AsDouble(args[3]), sum = 0.0;
    for (int i = 0; i < 6; i++) by[i] = (float)PyFloat_AsDouble(args[4 + i]);
    Array a[3];
    int count;
    if (PyErr_Occurred() || !take_elements(args, a, &count)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    sum = loops->binary_cross_entropy((float *)a[0].data, a[1].data, a[1].kind, ignore, by,
                                      count == 3 ? (float *)a[2].data : NULL, size_of(&a[0]));
    Py_END_ALLOW_THREADS
    return finish_sum(a, count, sum);
}

/* differences(z, labels, slopes or None, ignore_index or None, squares, by): the sum */
static PyObject *differences(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    if (given != 6) return PyErr_Format(PyExc_TypeError, "expected 6 arguments (got %zd)", given);
    int masks = args[3] != Py_None, squares = PyObject_IsTrue(args[4]);
    double ignore = masks ? PyFloat_AsDouble(args[3]) : 0.0, by = PyFloat_AsDouble(args[5]), sum = 0.0;
    Array a[3];
    int count;
    if (PyErr_Occurred() || !take_elements(args, a, &count)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    sum = loops->differences((float *)a[0].data, a[1].data, a[1].kind, ignore, masks, squares, (float)by,
                             count == 3 ? (float *)a[2].data : NULL, size_of(&a[0]));
    Py_END_ALLOW_THREADS
    return finish_sum(a, count, sum);
}

/* jaccard_steps(keys, foreground, steps), row by row; the low half of a key is the pixel's place */
static PyObject *jaccard_steps(PyObject *self, PyObject *const *args, Py_ssize_t given) {
    static const Wanted wanted[] = {{"keys", UINT64, 0}, {"foreground", BOOL, 0}, {"steps", FLOAT32, 1}};
    Array a[3];
    int64_t wrong = 0;
    if (!take_all(args, given, a, wanted, 3)) return NULL;
    if (a[0].shape[2] > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "keys has more entries in a row than fit 31 bits");
    } else if (has_shape(&a[0], "keys", 1, -1, -1) && has_shape(&a[1], "foreground", 1, a[0].shape[1], a[0].shape[2]) &&
               has_shape(&a[2], "steps", 1, a[0].shape[1], a[0].shape[2])) {
        Py_BEGIN_ALLOW_THREADS
        for (int64_t n = 0; n < a[0].shape[1]; n++)
            wrong += loops->jaccard_steps(ROW(a[0], uint64_t, n), ROW(a[1], uint8_t, n), ROW(a[2], float, n), a[0].shape[2]);
        Py_END_ALLOW_THREADS
    }
    return finish_indexed(a, 3, wrong, a[0].shape[2]);
}

/* instruction_sets(): names of those that this processor has, the fastest first */
static PyObject *instruction_sets(PyObject *self, PyObject *unused) {
    PyObject *names = PyTuple_New(available_count);
    for (int i = 0; names && i < available_count; i++) {
        PyObject *name = PyUnicode_FromString(available[i]->name);
        if (!name || PyTuple_SetItem(names, i, name) < 0) Py_CLEAR(names);
    }
    return names;
}

/* use(name): takes the loops of one instruction set, for tests */
static PyObject *use(PyObject *self, PyObject *name) {
    for (int i = 0; PyUnicode_Check(name) && i < available_count; i++) {
        if (PyUnicode_CompareWithASCIIString(name, available[i]->name) == 0) {
            loops = available[i];
            Py_RETURN_NONE;
        }
    }
    return PyErr_Format(PyExc_ValueError, "no such instruction set here: %R", name);
}

#define FAST(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}
static PyMethodDef methods[] = {
    FAST(softmax_parts), FAST(softmax_sums),    FAST(softplus_and_sigmoid), FAST(pick), FAST(subtract_at),
    FAST(class_sums),    FAST(sums),            FAST(descending_keys),      FAST(split_labels),
    FAST(cross_entropy), FAST(jaccard_steps),   FAST(binary_cross_entropy), FAST(differences),
    {"instruction_sets", instruction_sets, METH_NOARGS, NULL},
    {"use", use, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_loops", .m_doc = "Loops over float32 pixels.", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__loops(void) {
    available_count = sets_here(available);
    loops = available[0];
    return PyModule_Create(&definition);
}
