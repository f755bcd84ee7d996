"""Who takes part in a measurement: our loss, its peers, and the floor. Runs in a worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.floor import Floor
from benchmarks.frameworks import Framework
from benchmarks.names import FLOOR, OURS
from benchmarks.peers import Peer
from benchmarks.rows import MIXED, Row, Shape, arrays
from benchmarks.timing import by_clock

#: Pixels of an image's edge for the calls that load libraries before something else is measured.
TINY = 16


class Field:
    """One framework with our losses and the peers."""

    def __init__(self, framework: Framework, faces: Any, peers: Mapping[str, tuple[Peer, ...]]) -> None:
        self.framework = framework
        self._faces = faces
        self._peers = peers
        self._drawn: tuple[tuple[str, Shape], dict[str, Any]] | None = None

    def peers(self, row: Row) -> tuple[Peer, ...]:
        """The peers of a row."""
        return self._peers.get(row.name, ())

    def peer(self, row: Row, name: str) -> Peer:
        """A peer by its name."""
        for peer in self.peers(row):
            if peer.name == name:
                return peer
        raise ValueError(f"{row.name} has no peer {name!r}: expected one of {[peer.name for peer in self.peers(row)]}")

    def ours(self, row: Row, shape: Shape, inputs: Mapping[str, Any]) -> Callable[[Any], Any]:
        """Our value as a function of the logits."""
        labels, edges = inputs["labels"], inputs.get("edge_logits")
        if row.loss == "MixedLoss":
            parts = [getattr(self._faces, name)() for name in MIXED]
            loss = self._faces.MixedLoss(parts, **row.arguments(shape), reduction="sum")
        else:
            loss = getattr(self._faces, row.loss)(**row.arguments(shape))
        if "noise" in inputs:
            return lambda logits: loss(logits, labels, noise=inputs["noise"])
        if edges is not None:
            return lambda logits: loss((logits, edges), labels)
        return lambda logits: loss(logits, labels)

    def value(self, name: str, row: Row, shape: Shape, inputs: Mapping[str, Any]) -> Callable[[Any], Any]:
        """The value of a contestant, by its name, as a function of the logits."""
        if name == OURS:
            return self.ours(row, shape, inputs)
        return self.peer(row, name).build(row, shape, inputs)

    def inputs(self, row: Row, shape: Shape) -> dict[str, Any]:
        """Tensors of a configuration."""
        if self.framework.device == "cpu":
            return self.framework.tensors(self._drawn_for(row, shape), shape.dtype)
        # A device gets copies: the numbers themselves, drawn in a second, serve its times, its graphs and its memory.
        if self._drawn is None or self._drawn[0] != (row.name, shape):
            self._drawn = ((row.name, shape), self._drawn_for(row, shape))
        return self.framework.tensors(self._drawn[1], shape.dtype)

    def _drawn_for(self, row: Row, shape: Shape) -> dict[str, Any]:
        """Without noise: a loss that needs some draws it, which is a part of a user's call."""
        return {name: array for name, array in arrays(row, shape, self.framework.name).items() if name != "noise"}

    def step(self, name: str, row: Row, shape: Shape, inputs: Mapping[str, Any]) -> Callable[[], None]:
        """Forward and backward of a contestant, which leave a gradient on the logits."""
        value, logits = self.value(name, row, shape, inputs), inputs["logits"]

        def run() -> None:
            value(logits).backward()

        return run

    def timed(self, step: Callable[[], Any], inputs: Mapping[str, Any], clock: Callable[[], float]) -> Callable[[], float]:
        """A step that returns its seconds and starts without a gradient: freeing the last one is not its work."""

        def before() -> None:
            self.framework.drop_gradient(inputs["logits"])

        if self.framework.device == "cpu":
            return by_clock(step, before, clock)
        on_device = self.framework.on_device(step)

        def timed() -> float:
            before()
            return on_device()

        return timed

    def floors(self, row: Row, shape: Shape, inputs: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
        """The floors' steps; none where NumPy lacks the dtype. On a GPU the floor is one exp."""
        logits = inputs["logits"]
        if self.framework.device != "cpu":
            fixed = logits.detach()
            return {FLOOR: fixed.exp}
        if shape.dtype != "float32":
            return {}
        made: dict[str, Callable[[], Any]] = {}
        made.update(Floor(arrays(row, shape)["logits"], self.framework.threads()["kernels"]).steps())
        return made
