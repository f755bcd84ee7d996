"""A worker of the benchmarks that measures nothing: what is asked, and answers made up beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def made_up(answers: Mapping[str, Any], device: str, asked: list[str] | None = None) -> Callable[..., Any]:
    """What stands for `Worker` on a device: it answers each kind of question as given, and notes what it was asked.

    An answer that is an error is raised, as where a process has died.
    """

    class MadeUpWorker:
        def __init__(self, backend: str, python: Any, given: str) -> None:
            assert given == device
            self.backend = backend

        def __enter__(self) -> MadeUpWorker:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def ask(self, question: dict[str, Any], limit: float = 0.0) -> dict[str, Any]:
            if asked is not None:
                asked.append(question["do"])
            answer = answers[question["do"]]
            if isinstance(answer, Exception):
                raise answer
            return {**answer, "wall": 0.0}

        def describe(self) -> dict[str, Any]:
            return self.ask({"do": "describe"})

    return MadeUpWorker
