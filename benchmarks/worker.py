"""A process with one framework: a request a line on its input, an answer a line on its output.

Torch and Paddle can crash each other in one process, and a fresh process is what a first call and a peak of memory need.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from importlib import metadata
from typing import Any

from benchmarks import memory
from benchmarks.checks import check, described
from benchmarks.contestants import TINY, Field
from benchmarks.frameworks import load
from benchmarks.names import FLOORS, OURS
from benchmarks.rows import Row, Shape, row
from benchmarks.timing import LEAST_ROUNDS, interleave
from unilossseg.backends import set_num_threads

#: Calls after a first one, whose median it is compared with.
LATER = 5
#: A peer's memory is at most about this many times the logits: what must be free before one is tried.
PEER_NEEDS = 26
OURS_NEEDS = 8


class Session:
    """Answers requests."""

    def __init__(self, backend: str, device: str, single: bool) -> None:
        if single:
            set_num_threads(1)
        # With one thread, seconds of the processor: those that other programs took are not in them.
        self._clock = time.process_time if single else time.perf_counter
        framework, faces, peers, self._packages = load(backend, device)
        self._framework = framework
        self._field = Field(framework, faces, peers)

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Versions, threads and the accelerator."""
        found = {"versions": _versions(self._packages), "threads": self._framework.threads()}
        accelerator = self._framework.device_name()
        return {**found, "accelerator": accelerator} if accelerator else found

    def check(self, request: dict[str, Any]) -> dict[str, Any]:
        """The marks of a row."""
        return {"checks": check(self._field, row(request["row"]))}

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """Interleaved times of a row's contestants, and what went wrong with those that have none."""
        measured, shape = row(request["row"]), Shape(**request["shape"])
        wanted = request.get("contestants")
        failures: dict[str, str] = {}
        steps: dict[str, Any] = {}
        rounds = request["rounds"]
        # In this order: what does not fit must not be tried.
        names = self._names(measured, shape, wanted, request.get("slow", False), failures)
        inputs = self._field.inputs(measured, shape)
        for name in names:
            try:
                step = self._field.step(name, measured, shape, inputs)
                if name != OURS and self._is_slow(measured, shape, name):
                    # Minutes a call: one call is all, its first.
                    rounds = 1
                else:
                    step()
                steps[name] = step
            except Exception as error:  # a peer may fail in any way: what it said is the result
                failures[name] = described(error)
        if OURS not in steps:
            return {"times": {}, "failures": failures}
        floors = self._field.floors(measured, shape, inputs)
        steps.update({name: step for name, step in floors.items() if wanted is None or name in wanted})
        for step in [step for name, step in steps.items() if rounds > 1 or name == OURS]:
            self._framework.drop_gradient(inputs["logits"])
            step()
        self._framework.drop_gradient(inputs["logits"])
        waiting = self._framework.without_waiting(steps[OURS])
        if waiting:
            failures[f"{OURS}, waiting"] = waiting
        timed = {name: self._field.timed(step, inputs, self._clock) for name, step in steps.items()}
        least = request.get("least", LEAST_ROUNDS)
        times = interleave(timed, anchor=OURS, rounds=rounds, seconds=request["seconds"], least=least)
        return {"times": times, "failures": failures}

    def _names(
        self, measured: Row, shape: Shape, wanted: list[str] | None, slow: bool, failures: dict[str, str]
    ) -> list[str]:
        """Those that can take part; the others' reasons go into `failures`."""
        size = measured.logits_bytes(shape)
        free = memory.available() if self._framework.device == "cpu" else None
        if free is not None and free < OURS_NEEDS * size:
            raise MemoryError(f"{shape} needs about {OURS_NEEDS * size >> 20} MiB free, there are {free >> 20}")
        names = [OURS]
        for peer in self._field.peers(measured):
            if wanted is not None and peer.name not in wanted:
                continue
            if self._is_slow(measured, shape, peer.name) and not slow:
                failures[peer.name] = "would take minutes at least: not measured at this size without --slow"
            elif free is not None and free < PEER_NEEDS * size:
                failures[peer.name] = f"might need {PEER_NEEDS * size >> 20} MiB, {free >> 20} are free"
            else:
                names.append(peer.name)
        return [name for name in names if wanted is None or (name in (OURS, *wanted) and name not in FLOORS)]

    def _is_slow(self, measured: Row, shape: Shape, name: str) -> bool:
        """Whether a peer takes minutes here."""
        largest = self._field.peer(measured, name).largest
        return largest is not None and shape.pixels * measured.channels(shape) > largest

    def replays(self, request: dict[str, Any]) -> dict[str, Any]:
        """Interleaved times of a row's contestants as graphs of the device, and why others cannot be captured."""
        measured, shape, framework = row(request["row"]), Shape(**request["shape"]), self._framework
        failures: dict[str, str] = {}
        steps: dict[str, Any] = {}
        names = self._names(measured, shape, None, False, failures)
        inputs = self._field.inputs(measured, shape)
        floors = self._field.floors(measured, shape, inputs)

        def before() -> None:
            framework.drop_gradient(inputs["logits"])

        for name in (*names, *floors):
            try:
                step = floors.get(name) or self._field.step(name, measured, shape, inputs)
                steps[name] = framework.on_device(framework.captured(step, before))
            except Exception as error:  # many a peer waits for the device
                failures[name] = described(error)
        if OURS not in steps:
            return {"times": {}, "failures": failures}
        times = interleave(steps, anchor=OURS, rounds=request["rounds"], seconds=request["seconds"])
        return {"times": times, "failures": failures}

    def memory(self, request: dict[str, Any]) -> dict[str, Any]:
        """Peak extra memory of one contestant; on the CPU the process must be fresh."""
        measured, shape, name = row(request["row"]), Shape(**request["shape"]), request["contestant"]
        tiny = Shape(shape.batch, shape.classes, TINY, shape.dtype)
        self._field.step(name, measured, tiny, self._field.inputs(measured, tiny))()
        inputs = self._field.inputs(measured, shape)
        step = self._field.step(name, measured, shape, inputs)
        return {"extra": self._framework.peak_extra(step), "logits": measured.logits_bytes(shape)}

    def first_call(self, request: dict[str, Any]) -> dict[str, Any]:
        """Seconds of the first call of a contestant and of those after it; the process must be fresh."""
        measured, shape, name = row(request["row"]), Shape(**request["shape"]), request["contestant"]
        inputs = self._field.inputs(measured, shape)
        step = self._field.timed(self._field.step(name, measured, shape, inputs), inputs, self._clock)
        if self._framework.device == "cpu":
            memory.back()
        first = step()
        return {"first": first, "later": [step() for _ in range(LATER)]}


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return {"python": sys.version.split()[0], **found}


def main() -> None:
    """Answers until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # What libraries print must not come between the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    warnings.simplefilter("ignore")
    backend, device, threads = sys.argv[1:]
    session: Session | None = None
    for line in sys.stdin:
        request = json.loads(line)
        started = time.perf_counter()
        try:
            if session is None:
                session = Session(backend, device, threads == "1")
            answer = getattr(session, request["do"])(request)
        except Exception as error:  # reported to the parent, which says it aloud
            answer = {"error": described(error)}
        answer["wall"] = time.perf_counter() - started
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
