"""Which configurations a run measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.rows import BYTES, ROWS, TARGET, Row, Shape, row

BATCHES = (1, 2, 8)
CLASSES = (2, 19, 150)
SIZES = (64, 256, 512, 1024)
DTYPES = ("float32", "bfloat16")
#: Configurations around the target's, one thing changed at a time. Batches and classes at 256, where the slow peers take
#: seconds and not minutes.
STAR = (
    TARGET,
    Shape(2, 19, 64),
    Shape(2, 19, 256),
    Shape(2, 19, 1024),
    Shape(1, 19, 256),
    Shape(8, 19, 256),
    Shape(2, 2, 256),
    Shape(2, 150, 256),
    Shape(2, 19, 512, "bfloat16"),
)
#: The same on a GPU, which more pixels fill: at 256 a call there takes as long as at 64.
DEVICE_STAR = (
    TARGET,
    Shape(2, 19, 64),
    Shape(2, 19, 1024),
    Shape(1, 19, 512),
    Shape(8, 19, 512),
    Shape(2, 2, 512),
    Shape(2, 150, 512),
    Shape(2, 19, 512, "bfloat16"),
)
#: Where we and the floor are measured without peers, as at the target's: is the cost linear in pixels and in classes?
LARGE = (Shape(2, 19, 2048), Shape(2, 150, 512))

#: Where no loss may be much slower than a peer.
SMALL = Shape(TARGET.batch, TARGET.classes, 64)
#: Whose reference cannot be measured at the target's size: measured at a tiny one, and taken as linear in pixels, which is
#: in its favour.
AT_SMALL_SIZE = {("paddle", "DualTaskLoss")}
TINY = Shape(TARGET.batch, TARGET.classes, 32)


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    rows: tuple[Row, ...]
    shapes: tuple[Shape, ...]
    large: tuple[Shape, ...]
    backends: tuple[str, ...]
    rounds: int
    #: How long one contestant may take at one configuration, beyond the least number of rounds.
    seconds: float
    slow: bool = False
    #: Whether peaks of memory and first calls are measured at the target's configuration.
    fresh: bool = True

    @property
    def measures_something(self) -> bool:
        """Whether any of the losses is measured in any of the dtypes."""
        return any(self.shapes_of(backend, one) for backend in self.backends for one in self.rows)

    def shapes_of(self, backend: str, one: Row) -> list[tuple[Shape, bool]]:
        """The configurations of a row, each once with its peers and once without, and whether it is without."""
        shapes = [(shape, False) for shape in self.shapes]
        if self.large and TARGET in self.shapes:
            # The cost at the largest is compared with that at the target's, measured as they are.
            shapes += [(shape, True) for shape in (TARGET, *self.large)]
        if (backend, one.name) in AT_SMALL_SIZE and TARGET in self.shapes:
            shapes.append((TINY, False))
        found, seen = [], set()
        for shape, alone in shapes:
            # One channel is one channel, however many classes.
            key = (alone, shape.batch, one.channels(shape), shape.size, shape.dtype)
            if key in seen or (shape.dtype != "float32" and not one.half):
                continue
            seen.add(key)
            found.append((shape, alone))
        return found


def star(quick: bool, device: str = "cpu") -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """The usual configurations, and those that are measured without peers."""
    if quick:
        return (TARGET,), ()
    return (STAR, LARGE) if device == "cpu" else (DEVICE_STAR, ())


def matrix(
    sizes: tuple[int, ...], batches: tuple[int, ...], classes: tuple[int, ...], dtypes: tuple[str, ...]
) -> tuple[Shape, ...]:
    """Every combination. A loss of one channel is measured with the first number of classes alone: the target's."""
    classes = tuple(sorted(classes, key=lambda count: count != TARGET.classes))
    return tuple(Shape(n, c, s, dtype) for dtype, c, n, s in product(dtypes, classes, batches, sizes))


def selected(
    quick: bool,
    full: bool,
    size: Sequence[int] | None,
    batch: Sequence[int] | None,
    classes: Sequence[int] | None,
    dtype: Sequence[str] | None,
    device: str = "cpu",
) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """The configurations that options ask for, and those that are measured without peers.

    What is not given is the target's, with `full` all. A GPU's page does not ask whether the cost is linear.
    """
    chosen = bool(size or batch or classes or dtype)
    if quick and full:
        raise ValueError("--quick and --full exclude each other: give one")
    if quick and chosen:
        raise ValueError("--quick measures the target's configuration: give it without --size, --batch, --classes, --dtype")
    unknown = [name for name in dtype or () if name not in BYTES]
    if unknown:
        raise ValueError(f"--dtype must be one of {', '.join(BYTES)} (got {unknown[0]!r})")
    if not (full or chosen):
        return star(quick, device)
    shapes = matrix(
        tuple(size or (SIZES if full else (TARGET.size,))),
        tuple(batch or (BATCHES if full else (TARGET.batch,))),
        tuple(classes or (CLASSES if full else (TARGET.classes,))),
        tuple(dtype or (DTYPES if full else (TARGET.dtype,))),
    )
    return shapes, LARGE if device == "cpu" and not chosen else ()


def rows(names: tuple[str, ...]) -> tuple[Row, ...]:
    """Rows by name, or all. A class name with several rows means all of these."""
    if not names:
        return tuple(ROWS.values())
    found = []
    for name in names:
        same = [one for one in ROWS.values() if one.loss == name]
        found.extend(same or [row(name)])
    return tuple(dict.fromkeys(found))
