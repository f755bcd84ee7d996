"""Whatever the compiled loops are called with: an answer or an error, and nothing written outside of their arrays."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from checks.compiled import SETS, the_set_in_use  # noqa: F401  a fixture
from checks.compiled import loops as _loops
from checks.loop_calls import (
    ARGUMENTS,
    CALLS,
    HALVES,
    INDICES,
    OTHERS,
    OUTPUTS,
    REFUSED,
    B,
    C,
    D,
    F,
    Guarded,
    I,
    N,
    S,
    U,
    arguments,
    called,
)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("instruction_set", SETS)
def test_good_arguments(name, instruction_set):
    _loops.use(instruction_set)
    given = arguments(name)
    called(name, given)
    for one, wanted in zip(given, CALLS[name], strict=True):
        if isinstance(wanted, tuple) and not wanted[2]:
            assert not np.any(one.array), "an argument that is read was written to"


def test_every_function_is_tried():
    functions = {name for name in dir(_loops) if not name.startswith("_") and callable(getattr(_loops, name))}
    assert set(CALLS) == functions - OTHERS


@pytest.mark.parametrize("number", [C, -1, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("place", [0, 1, S - 1])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("instruction_set", SETS)
def test_an_index_out_of_range(name, kind, place, number, instruction_set):
    _loops.use(instruction_set)
    given, (i, limit) = arguments(name), INDICES[name]
    given[i] = Guarded((N, S), kind)
    given[i].array[1, place] = number
    with pytest.raises(IndexError, match=rf"^[0-9]+ indices are not in \[0, {limit}\)$"):
        called(name, given)


@pytest.mark.parametrize("place", [S, S + 1, 2**31 - 1])
@pytest.mark.parametrize("instruction_set", SETS)
def test_a_key_that_names_no_pixel(place, instruction_set):
    _loops.use(instruction_set)
    given = arguments("lovasz")
    # The lowest bit of a key is its mark.
    given[0].array[[0, S - 1]] = place << 1
    with pytest.raises(IndexError, match=rf"^2 indices are not in \[0, {S}\)$"):
        called("lovasz", given)


@pytest.mark.parametrize("marked", [-1, S + 1, 2**40])
def test_more_marks_than_pixels(marked):
    given = arguments("lovasz")
    given[2] = marked
    with pytest.raises(ValueError, match=rf"^marked is {marked}, expected a number of pixels$"):
        called("lovasz", given)


@pytest.mark.parametrize("k", [0, -1, S + 1, 2**40])
def test_a_place_that_no_row_has(k):
    given = arguments("kth_largest")
    given[2] = k
    with pytest.raises(ValueError, match=rf"^k is {k}, expected one of the {S} numbers of a row$"):
        called("kth_largest", given)


@pytest.mark.parametrize("number", [2**32, 2**32 + 1, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("name", INDICES)
def test_an_index_that_32_bits_would_fold_into_the_range(name, number):
    given, (i, _) = arguments(name), INDICES[name]
    given[i] = Guarded((N, S), np.int64)
    given[i].array[0, 5] = number
    with pytest.raises(IndexError, match=r"^1 indices are not in"):
        called(name, given)


DTYPES = (
    "f2",
    "f4",
    "f8",
    "g",
    "F",
    "D",
    "i1",
    "u1",
    "i2",
    "u2",
    "i4",
    "u4",
    "i8",
    "u8",
    "?",
    ">f4",
    ">i4",
    ">i8",
    "S4",
    "U1",
    "V4",
)
TAKEN = {F: "f4", D: "f8", I: "i4", U: "u8", B: "?", np.int64: "i8", np.uint16: "u2"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "i"), ARGUMENTS)
def test_another_dtype(name, i, dtype):
    shape, wanted, _ = CALLS[name][i]
    # Labels of half precision are not counted.
    labels = {"split_labels": ("i8", "i4", "i2", "u1"), "binary_cross_entropy": ("f4", "i8", "i4", "u1")}
    labels["differences"] = ("f4", "f2", "u2", "i8", "i4", "u1")
    labels["plain_cross_entropy"] = labels["weight_sum"] = labels["split_labels"]
    labels["tally"] = ("f4", "i8", "i4", "i2", "u1")
    labels["widen"] = labels["narrow"] = ("u2", "f2")
    places = {"split_labels": 0, "weight_sum": 0, "tally": 0, "widen": 0}
    taken = labels.get(name, ()) if places.get(name, 1) == i else ()
    if name in ("binary_cross_entropy", "differences") and i in (0, 2) and dtype in ("f2", "u2"):
        # Halves go with halves.
        given = arguments(name)
        given[i] = Guarded(shape, dtype)
        with pytest.raises(ValueError, match="slopes has a dtype other than that of z"):
            called(name, given)
        return
    if name != "plain_cross_entropy" and INDICES.get(name, (None,))[0] == i:
        taken = ("i4", "i8")
    if i in HALVES.get(name, ()):
        taken = ("f2", "u2")
    given = arguments(name)
    given[i] = Guarded(shape, np.uint8 if dtype in ("S4", "U1", "V4") else dtype)
    if dtype in ("S4", "U1", "V4"):
        given[i] = np.zeros(shape, dtype)
    if dtype in (*taken, TAKEN[wanted]):
        called(name, given)
    else:
        with pytest.raises(ValueError, match=r"has a dtype that this operation does not take|cannot include dtype"):
            called(name, given)


@pytest.mark.parametrize(("name", "i"), ARGUMENTS)
def test_a_dtype_that_names_the_order_of_bytes(name, i):
    """The machine's own, which NumPy takes for the same dtype, and hands over in another format."""
    given = arguments(name)
    one = given[i]
    one.array = one.array.view(one.array.dtype.newbyteorder("<" if sys.byteorder == "little" else ">"))
    called(name, given)


OTHER_SHAPES = ((), (S,), (N, S), (N, S + 1), (N, S - 1), (N + 1, S), (N, C, S), (N, C, S + 1), (N, C + 1, S), (N - 1, C, S))
OTHER_SHAPES += ((N, 1, C, S), (N, C, 0), (N, 0), (0, S), (0,), (N, 0, S), (N, C, 1), (N, C, 2), (C, 1), (1, 1))


@pytest.mark.parametrize("shape", OTHER_SHAPES)
@pytest.mark.parametrize(("name", "i"), ARGUMENTS)
def test_another_shape(name, i, shape):
    wanted, dtype, _ = CALLS[name][i]
    given = arguments(name)
    given[i] = Guarded(shape, dtype)
    if (name, i) == ("tally", 0) and 1 <= len(shape) <= 3:
        # Labels of any shape are counted.
        called(name, given)
        assert given[1].array[0] == math.prod(shape)
        return
    leading = math.prod(shape[: -2 + i]) if name == "weight_sum" else 0
    if leading == 1 and 1 <= len(shape) <= 3 and (i == 0 or shape[-1] > 0):
        # Rows of labels of any length, and a weight for each of any number of classes.
        assert called(name, given) == 0
        return
    if (name, i) == ("lovasz", 0) and math.prod(shape[:-1]) == 1 and 1 <= len(shape) <= 3:
        # As many keys as there are pixels that weigh.
        called(name, given)
        return
    if (name, i) == ("softmax_sums", 0) and len(shape) == 3 and shape[::2] == (N, S) and shape[1] > 0:
        # Nothing else of the call has channels.
        called(name, given)
        return
    if (name, i) == ("kth_largest", 0) and len(shape) == 2 and shape[0] == N and shape[1] >= given[2]:
        # Rows of any length that has a k-th number.
        called(name, given)
        return
    if shape == wanted:
        return
    refused = (
        r"has length|must have 1 to 3 axes|must be contiguous|has no channels|expected a number of pixels|expected one of"
    )
    with pytest.raises(ValueError, match=refused):
        called(name, given)


@pytest.mark.parametrize(("name", "i"), ARGUMENTS)
def test_memory_in_another_order(name, i):
    shape, dtype, _ = CALLS[name][i]
    size = np.dtype(dtype).itemsize
    given = arguments(name)
    if size > 1:
        given[i] = Guarded(shape, dtype, off=1)
        # NumPy gives such memory another format.
        with pytest.raises(ValueError, match="has a dtype that this operation does not take"):
            called(name, given)
        # A memoryview does not.
        code = {F: "f", D: "d", I: "i", U: "Q", np.int64: "q", np.uint16: "H"}[dtype]
        given[i] = memoryview(bytearray(math.prod(shape) * size + 9))[1:-8].cast(code, shape)
        with pytest.raises(ValueError, match="is not aligned"):
            called(name, given)
    if shape[-1] > 1:
        backwards = Guarded(shape, dtype)
        backwards.array = backwards.array[..., ::-1]
        for changed in (Guarded(shape, dtype, stride=2), backwards):
            given[i] = changed
            with pytest.raises(ValueError, match="contiguous"):
                called(name, given)


@pytest.mark.parametrize(("name", "i"), OUTPUTS)
def test_a_place_that_cannot_be_written_to(name, i):
    given = arguments(name)
    given[i].array.flags.writeable = False
    with pytest.raises((ValueError, BufferError), match=r"read-only|not writable"):
        called(name, given)
    given[i] = given[i].array.tobytes()
    with pytest.raises(REFUSED):
        called(name, given)


@pytest.mark.parametrize("other", [5, "text", [1.0], object(), b"", b"12345678", np.float32(1), {}], ids=repr)
@pytest.mark.parametrize(("name", "i"), ARGUMENTS)
def test_no_array(name, i, other):
    given = arguments(name)
    given[i] = other
    if name in ("tally", "weight_sum") and i == 0 and isinstance(other, bytes):
        # Bytes are labels of eight bits.
        if name == "tally":
            called(name, given)
            assert given[1].array[0] == len(other)
        elif other:
            with pytest.raises(IndexError, match="8 indices are not in"):
                called(name, given)
        else:
            assert called(name, given) == 0
        return
    with pytest.raises(REFUSED):
        called(name, given)


@pytest.mark.parametrize("name", CALLS)
def test_another_number_of_arguments(name):
    given = arguments(name)
    for wrong in ([], given[:1], given[:-1], [*given, given[0]], given * 3):
        if name == "relaxed_cross_entropy" and len(wrong) == 3:
            continue
        with pytest.raises(TypeError, match=r"expected \d+ (arrays|arguments) \(got \d+\)"):
            called(name, wrong)


@pytest.mark.parametrize("i", [3, 4])
def test_weights_without_slopes(i):
    given = arguments("cross_entropy")
    given[i] = None
    with pytest.raises(ValueError, match="weights and slopes come together or not at all"):
        called("cross_entropy", given)


WITH_VALUES = [name for name, wanted in CALLS.items() if not all(isinstance(one, tuple) for one in wanted)]


@pytest.mark.parametrize("name", WITH_VALUES)
def test_plain_values_of_another_kind(name):
    for i, one in enumerate(CALLS[name]):
        if isinstance(one, tuple):
            continue
        for wrong in ("text", None, object(), [1], 1 << 2000):
            optional = (("differences", 4), ("differences", 3), ("tally", 2), ("binary_cross_entropy", 9))
            if (name, i) in optional and wrong != "text":
                continue
            given = arguments(name)
            given[i] = wrong
            if (name, i) == ("differences", 4):
                called(name, given)  # anything is true or false
                continue
            with pytest.raises((TypeError, OverflowError)):
                called(name, given)


@pytest.mark.parametrize("label", [math.inf, -math.inf, math.nan, 2**53, -(2**53), 1e300])
@pytest.mark.parametrize(
    ("name", "i"),
    [("binary_cross_entropy", 3), ("binary_cross_entropy", 9), ("differences", 3), ("tally", 2), ("tally", 3)],
)
def test_a_label_that_no_integer_is(name, i, label):
    given = arguments(name)
    given[i] = label
    with pytest.raises(ValueError, match=r"^a label must lie between -2\^53 and 2\^53$"):
        called(name, given)


def test_a_truth_that_cannot_be_told():
    class Undecided:
        def __bool__(self):
            raise RuntimeError("undecided")

    given = arguments("differences")
    given[4] = Undecided()
    with pytest.raises(RuntimeError, match="undecided"):
        called("differences", given)


@pytest.mark.parametrize("name", ["sse9", "", None, 5, b"baseline"])
def test_no_such_instruction_set(name):
    with pytest.raises(ValueError, match="no such instruction set here"):
        _loops.use(name)


def test_no_reference_is_kept():
    for name in CALLS:
        given = [one.array if isinstance(one, Guarded) else one for one in arguments(name)]
        # Not of plain numbers, which others may hold too.
        arrays = [one for one in given if isinstance(one, np.ndarray)]
        before = [sys.getrefcount(one) for one in arrays]
        for _ in range(3):
            getattr(_loops, name)(*given)
        assert [sys.getrefcount(one) for one in arrays] == before
        given[0].resize(given[0].shape, refcheck=False)  # impossible while a buffer is held
