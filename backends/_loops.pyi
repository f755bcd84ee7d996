from typing import Any, TypeAlias

from numpy import bool_, float16, float32, float64, int32, int64, uint16, uint64
from numpy.typing import NDArray

Labels: TypeAlias = NDArray[Any]
Halves: TypeAlias = NDArray[uint16] | NDArray[float16]
Floats: TypeAlias = NDArray[float32]
Marks: TypeAlias = NDArray[bool_]

SOURCES: str

def softmax_sums(z: Floats, norm: Floats, top: Floats, /) -> None: ...
def softplus_and_sigmoid(x: Floats, above: Floats, rising: Floats, /) -> None: ...
def keep_where(mask: Marks, x: Floats, out: Floats, other: float, threads: int, /) -> None: ...
def split_labels(labels: Labels, index: NDArray[int32], valid: NDArray[bool_], ignore_index: int, /) -> None: ...
def cross_entropy(
    z: Floats | Halves,
    index: Labels,
    losses: Floats,
    weights: Floats | None,
    slopes: Floats | Halves | None,
    threads: int,
    /,
) -> None: ...
def plain_cross_entropy(
    z: Floats | Halves,
    labels: Labels,
    slopes: Floats | Halves | None,
    by_class: Floats | None,
    ignore_index: int,
    share: float,
    threads: int,
    /,
) -> float: ...
def weight_sum(labels: Labels, by_class: Floats, ignore_index: int, threads: int, /) -> float: ...
def binary_cross_entropy(
    z: Floats | Halves,
    labels: Labels,
    slopes: Floats | Halves | None,
    ignore_index: float,
    v: float,
    w: float,
    p: float,
    share: float,
    threads: int,
    most: float | None,
    /,
) -> tuple[float, tuple[int, int, int, int] | None]: ...
def differences(
    z: Floats | Halves,
    labels: Labels,
    slopes: Floats | Halves | None,
    ignore_index: float | None,
    squares: bool,
    by: float,
    threads: int,
    /,
) -> tuple[float, int]: ...
def through_softmax(z: Floats, slope: Floats, weights: Floats | None, out: Floats, /) -> None: ...
def through_softmax_by_class(
    z: Floats | Halves,
    index: Labels,
    by_class: Floats,
    by_own: Floats,
    weights: Floats,
    out: Floats | Halves,
    threads: int,
    /,
) -> None: ...
def softmax_totals(z: Floats | Halves, index: Labels, weights: Floats, sums: NDArray[float64], threads: int, /) -> None: ...
def relaxed_cross_entropy(
    z: Floats, near: NDArray[bool_], losses: Floats, weights: Floats = ..., slopes: Floats = ..., /
) -> None: ...
def jaccard_keys(errors: Floats, marks: Marks, keys: NDArray[uint64], /) -> tuple[int, int]: ...
def kth_largest(x: Floats, out: Floats, k: int, /) -> None: ...
def sort_keys(keys: NDArray[uint64], room: NDArray[uint64], /) -> bool: ...
def lovasz(keys: NDArray[uint64], slopes: Floats, marked: int, scale: float, /) -> float: ...
def class_errors(
    x: Floats, top: Floats, norm: Floats, index: Labels, valid: Marks, errors: Floats, marks: Marks, number: int, /
) -> None: ...
def hinge_errors(score: Floats, index: Labels, valid: Marks, errors: Floats, marks: Marks, /) -> None: ...
def widen(x: Halves, out: Floats, /) -> None: ...
def narrow(x: Floats, out: Halves, /) -> None: ...
def tally(labels: Labels, counts: NDArray[int64], ignore_index: float | None, most: float, threads: int, /) -> None: ...
def send_away(threads: list[int], /) -> None: ...
def forget_threads() -> None: ...
def instruction_sets() -> tuple[str, ...]: ...
def use(name: str, /) -> None: ...
