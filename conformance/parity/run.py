"""A parity run: prepares the job, lets the workers do it, compares, and makes the record."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from unilossseg import __version__
from unilossseg.conformance.cases import Array
from unilossseg.conformance.parity import network, plan, processes
from unilossseg.conformance.parity.compare import BOUNDS, Comparison, compare
from unilossseg.conformance.parity.photographs import Photographs
from unilossseg.conformance.parity.training import Trained
from unilossseg.conformance.results import now

#: Raised whenever a field of `parity.json` changes its name or its meaning.
SCHEMA = 1


@dataclass(frozen=True)
class Settings:
    """How to train."""

    steps: int = 30
    dtype: str = "float32"
    rate: float = 0.01
    momentum: float = 0.9
    seed: int = 0

    @property
    def dtypes(self) -> tuple[str, ...]:
        """A float32 training has a float64 twin: it tells rounding from a difference of the losses."""
        return ("float64",) if self.dtype == "float64" else (self.dtype, "float64")


@dataclass(frozen=True)
class Parity:
    """The trainings, what they were about, and the comparisons."""

    config: Mapping[str, Any]
    settings: Settings
    heads: Sequence[plan.Head]
    pictures: str
    #: What each worker said about itself.
    workers: Mapping[str, Mapping[str, Any]]
    #: By backend and dtype.
    trained: Mapping[str, Mapping[str, Trained]]
    comparisons: Sequence[Comparison]
    parameters: int
    started: datetime
    seconds: float

    @property
    def same(self) -> bool:
        """Whether every error keeps its bound."""
        return all(comparison.same for comparison in self.comparisons)

    def curves(self, dtype: str | None = None) -> dict[str, Array]:
        """The loss before each step, by backend."""
        return {name: runs[dtype or self.settings.dtype].losses for name, runs in self.trained.items()}

    def record(self) -> str:
        """`parity.json`."""
        record = {
            "schema": SCHEMA,
            "unilossseg": __version__,
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "same": self.same,
            "config": self.config,
            "settings": asdict(self.settings),
            "network": {"parameters": self.parameters, "heads": plan.described(self.heads)},
            "pictures_sha256": self.pictures,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": platform.platform(),
            "machine": platform.machine(),
            "workers": self.workers,
            "comparisons": [{**asdict(item), "where": item.where, "same": item.same} for item in self.comparisons],
            "losses": {dtype: {n: c.tolist() for n, c in self.curves(dtype).items()} for dtype in self.settings.dtypes},
            "bounds": [{"dtype": dtype, "quantity": what, **asdict(bound)} for (dtype, what), bound in BOUNDS.items()],
        }
        return json.dumps(_plain(record), allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def run(
    config: Mapping[str, Any],
    heads: Sequence[plan.Head],
    pythons: Mapping[str, str | None],
    photographs: Photographs,
    settings: Settings,
    *,
    timeout: float = 120.0,
    report: Callable[[str], None] = lambda backend: None,
) -> Parity:
    """Trains in two frameworks and compares.

    Parameters
    ----------
    config, heads
        The losses, as `unilossseg.build` takes them, and what `plan.heads_of` makes of them.
    pythons
        The Python of another environment that runs each of the two backends, 'torch' and 'paddle'; None for this one's.
    timeout
        Seconds that one step may take.
    report
        Called with a backend's name for each of its steps.

    Raises
    ------
    WorkerError
        A worker that crashed, hung or failed; AbsentError if its Python lacks the framework.
    """
    started, clock = now(), time.monotonic()
    weights = network.initial_weights([head.channels for head in heads], settings.seed)
    arrays = {"images": photographs.images, "edges": photographs.edges}
    arrays |= {f"labels{at}": plan.labels_for(head, photographs) for at, head in enumerate(heads)}
    arrays |= {f"weight/{name}": array for name, array in weights.items()}
    # Rounded once: float32 and float64 training shall take the same step.
    rounded = {name: float(np.float32(getattr(settings, name))) for name in ("rate", "momentum")}
    job = {
        "config": config,
        "heads": plan.described(heads),
        "steps": settings.steps,
        "seed": settings.seed,
        "dtypes": settings.dtypes,
        **rounded,
    }
    with tempfile.TemporaryDirectory(prefix="unilossseg-") as place:
        folder = Path(place)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        with (folder / "inputs.npz").open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        workers = processes.train(pythons, folder, timeout, report)
        trained = {name: {d: _read(folder / f"{name}-{d}.npz") for d in settings.dtypes} for name in pythons}
    first, second = pythons
    return Parity(
        config=config,
        settings=settings,
        heads=heads,
        pictures=photographs.digest,
        workers=workers,
        trained=trained,
        comparisons=compare(trained, first, second, weights),
        parameters=sum(array.size for array in weights.values()),
        started=started,
        seconds=time.monotonic() - clock,
    )


def _read(path: Path) -> Trained:
    with np.load(path, allow_pickle=False) as file:
        parts: dict[str, dict[str, Array]] = {"gradient": {}, "parameter": {}}
        for key in file.files:
            part, _, name = key.partition("/")
            if part in parts:
                parts[part][name] = file[key]
        return Trained(file["losses"], parts["gradient"], parts["parameter"])


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinities: they are written as words."""
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
