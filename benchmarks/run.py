"""Carries a plan out: marks, times, peaks of memory, first calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import machine
from benchmarks.marks import FAILED
from benchmarks.names import FLOORS, OURS
from benchmarks.plan import Plan
from benchmarks.results import Check, FirstCall, Memory, Results, Timing
from benchmarks.rows import TARGET, Row, Shape
from benchmarks.standing import judged_speed
from benchmarks.stats import taken
from benchmarks.workers import LIMIT, Worker, WorkerError, ask_fresh

#: Seconds that a worker may take for an answer where slow peers are asked for.
LIMIT_SLOW = 4 * 3600.0
#: Rounds of everyone at the target's configuration, however slow: quartiles of three would say nothing.
LEAST_AT_TARGET = 9
#: Processes of which the middle first call counts: each has but one, and it may meet a busy moment.
PROCESSES = 5
Say = Callable[[str], None]


class Run:
    """One run; `results` grows as it goes."""

    def __init__(self, plan: Plan, pythons: Mapping[str, Path], device: str, command: str, say: Say) -> None:
        self._plan = plan
        self._pythons = pythons
        self._device = device
        self._say = say
        self._started = time.monotonic()
        created = datetime.now(UTC).isoformat(timespec="seconds")
        self.results = Results(device, created, 0.0, command, machine())

    def carry_out(self) -> Results:
        """Everything of the plan."""
        # All of them first: a framework that cannot start is found out before the other was measured for an hour.
        for backend in self._plan.backends:
            with Worker(backend, self._pythons[backend], self._device) as worker:
                self._describe(worker)
        for backend in self._plan.backends:
            for row in self._plan.rows:
                # In a process of its own: whether a peer's arrays of 40 MB get memory that was used before, or pages that
                # the system has to clear, depends on what the losses before it left. One was 7 times as fast after them.
                with Worker(backend, self._pythons[backend], self._device) as worker:
                    self._measure(worker, row)
            for row in self._plan.rows if self._plan.fresh and self._device == "cpu" else ():
                self._memory(backend, row, TARGET, partial(self._asked_fresh, backend))
                self._first_calls(backend, row)
        self.results.seconds = time.monotonic() - self._started
        return self.results

    # ------------------------------------------------------------------------------------------------ parts
    def _measure(self, worker: Worker, row: Row) -> None:
        """Marks and times of a loss, and on an accelerator its graphs and peaks of memory."""
        self._check(worker, row)
        for shape, alone in self._plan.shapes_of(worker.backend, row):
            self._time(worker, row, shape, alone)
            if self._device != "cpu" and not alone:
                self._replay(worker, row, shape)
                # An allocator's peak needs no process of its own.
                self._memory(worker.backend, row, shape, partial(self._answer, worker))

    def _describe(self, worker: Worker) -> None:
        answer = worker.describe()
        answer.pop("wall")
        self.results.backends[worker.backend] = answer
        missing = [name for name, version in answer["versions"].items() if version == "absent"]
        for name in missing:
            self._gap(f"{worker.backend}: {name} is not installed, so its losses are no peers in this run")

    def _check(self, worker: Worker, row: Row) -> None:
        answer = self._asked(worker, {"do": "check", "row": row.name}, f"{worker.backend} {row.name}: marks")
        for found in answer.get("checks", []):
            self.results.checks.append(Check(worker.backend, row.name, **found))
            if found["mark"] == FAILED:
                self._gap(f"{worker.backend} {row.name}: {found['contestant']} cannot be run: {found['reason']}")

    def _time(self, worker: Worker, row: Row, shape: Shape, alone: bool) -> None:
        question = self._rounds_of("time", row, shape, slow=self._plan.slow)
        what = f"{worker.backend} {row.name} {shape}"
        if alone:
            question["contestants"] = [OURS, *FLOORS]
            what += ", without peers"
        elif shape == TARGET:
            question["least"] = min(LEAST_AT_TARGET, self._plan.rounds)
        answer = self._asked(worker, question, what)
        if "error" in answer:
            return
        timing = Timing(worker.backend, row.name, shape, answer["times"], answer["failures"])
        (self.results.alone if alone else self.results.timings).append(timing)
        for name, reason in timing.failures.items():
            self._gap(f"{what}: {name}: {reason}")
        shown = [f"{name} {1000 * median(taken(times)):.1f} ms" for name, times in timing.times.items()]
        self._say(f"{what}: " + ", ".join(shown))

    def _replay(self, worker: Worker, row: Row, shape: Shape) -> None:
        """What waits for the device cannot be captured: that is no gap of the measurement."""
        answer = self._asked(
            worker, self._rounds_of("replays", row, shape), f"{worker.backend} {row.name} {shape}, captured"
        )
        if "error" in answer:
            return
        self.results.replays.append(Timing(worker.backend, row.name, shape, answer["times"], answer["failures"]))
        if OURS in answer["failures"]:
            self._gap(f"{worker.backend} {row.name} {shape}: {OURS} cannot be captured: {answer['failures'][OURS]}")

    def _memory(self, backend: str, row: Row, shape: Shape, ask: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        timing = self.results.timing(backend, row.name, shape)
        if timing is None:
            return
        size = row.logits_bytes(shape)
        for name in [name for name in timing.times if name not in FLOORS]:
            question = {"do": "memory", "row": row.name, "shape": shape.as_json(), "contestant": name}
            answer = ask(question)
            failure = answer.get("error", "")
            if failure:
                self._gap(f"{backend} {row.name}: memory of {name}: {failure}")
            found = Memory(backend, row.name, shape, name, answer.get("extra"), size, failure)
            self.results.memory.append(found)
            if found.multiple is not None:
                self._say(f"{backend} {row.name}: memory of {name}: {found.multiple:.2f} × the logits")

    def _first_calls(self, backend: str, row: Row) -> None:
        """Ours, and that of the peer that our speed is judged against."""
        timing = self.results.timing(backend, row.name, TARGET)
        if timing is None:
            return
        judged = judged_speed(self.results, backend, row.name, timing)
        peers = [judged.peer] if judged is not None and judged.peer in timing.times else []
        for name in [OURS, *peers]:
            question = {"do": "first_call", "row": row.name, "shape": TARGET.as_json(), "contestant": name}
            answers = [self._asked_fresh(backend, question) for _ in range(PROCESSES)]
            died = [one for one in answers if "error" in one]
            good = sorted((one for one in answers if "error" not in one), key=lambda one: one["first"])
            # One may die by chance; where most do, what the others say is not to be trusted.
            answer = good[len(good) // 2] if len(good) > len(died) else died[0]
            failure = answer.get("error", "")
            if failure:
                self._gap(f"{backend} {row.name}: first call of {name}: {failure}")
            found = FirstCall(backend, row.name, TARGET, name, answer.get("first"), answer.get("later", []), failure)
            self.results.first_calls.append(found)
            if found.first is not None:
                self._say(
                    f"{backend} {row.name}: first call of {name}: {found.first / median(found.later):.2f} × a later one"
                )

    # ------------------------------------------------------------------------------------------------ asking
    def _rounds_of(self, do: str, row: Row, shape: Shape, **more: Any) -> dict[str, Any]:
        """A question about times, in the plan's rounds."""
        rounds = {"rounds": self._plan.rounds, "seconds": self._plan.seconds}
        return {"do": do, "row": row.name, "shape": shape.as_json(), **rounds, **more}

    def _asked(self, worker: Worker, question: dict[str, Any], what: str) -> dict[str, Any]:
        answer = self._answer(worker, question)
        if "error" in answer:
            self._gap(f"{what}: {answer['error']}")
        return answer

    def _answer(self, worker: Worker, question: dict[str, Any]) -> dict[str, Any]:
        """A worker that dies has an answer too: that it did."""
        try:
            return worker.ask(question, LIMIT_SLOW if self._plan.slow else LIMIT)
        except WorkerError as error:
            return {"error": str(error)}

    def _asked_fresh(self, backend: str, question: dict[str, Any]) -> dict[str, Any]:
        try:
            return ask_fresh(backend, self._pythons[backend], self._device, question)
        except WorkerError as error:
            return {"error": str(error)}

    def _gap(self, text: str) -> None:
        self.results.gaps.append(text)
        self._say(f"not measured: {text}")
