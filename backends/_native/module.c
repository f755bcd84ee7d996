/* Operations of the NumPy backend in one pass where NumPy needs several: arrays come in by the buffer protocol, the
 * interpreter's lock is let go while a loop runs. What each computes stands in the backend's fallback of the same name, or
 * of the operation that it is a step of.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <string.h>

#include "arrays.h"
#include "labels.h"
#include "sort.h"
#include "sets.h"
#include "places.h"
#include "team.h"

/* The digest of these files, which setup.py knows: it has no quotes, which not every compiler's command line keeps. */
#ifndef SOURCES
#define SOURCES unknown
#endif
#define AS_WRITTEN(x) #x
#define IN_QUOTES(x) AS_WRITTEN(x)

static const Loops *available[3];
static int available_count;
static const Loops *loops;

#include "calls.h"
#include "tiles.h"
#include "element_calls.h"
#include "order_calls.h"
#include "softmax_calls.h"

/* instruction_sets(): names of those that this processor has, the fastest first */
static PyObject *instruction_sets(PyObject *self, PyObject *unused) {
    PyObject *names = PyTuple_New(available_count);
    for (int i = 0; names && i < available_count; i++) {
        PyObject *name = PyUnicode_FromString(available[i]->name);
        if (!name || PyTuple_SetItem(names, i, name) < 0) Py_CLEAR(names);
    }
    return names;
}

/* use(name): takes the loops of one instruction set */
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
    FAST(softmax_sums), FAST(softplus_and_sigmoid), FAST(keep_where), FAST(split_labels),
    FAST(through_softmax), FAST(through_softmax_by_class), FAST(softmax_totals), FAST(relaxed_cross_entropy),
    FAST(cross_entropy), FAST(plain_cross_entropy), FAST(weight_sum), FAST(binary_cross_entropy), FAST(differences), FAST(tally), FAST(class_errors), FAST(hinge_errors),
    FAST(kth_largest), FAST(jaccard_keys), FAST(sort_keys), FAST(lovasz), FAST(widen), FAST(narrow),
    {"instruction_sets", instruction_sets, METH_NOARGS, NULL},
    {"use", use, METH_O, NULL},
    {"send_away", send_them_away, METH_O, NULL},
    {"forget_threads", forget_threads, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_loops", .m_doc = "Loops over pixels in float32 and half precision.", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__loops(void) {
    available_count = sets_here(available);
    loops = available[0];
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddStringConstant(module, "SOURCES", IN_QUOTES(SOURCES)) < 0) Py_CLEAR(module);
    return module;
}
