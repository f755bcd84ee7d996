"""The form of a known cause."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unilossseg.conformance.records.evidence import Evidence, Prediction, explained

#: What a cause must account for, of the difference, to be named at all, and to be called an explanation.
POSSIBLE, CONVINCING = 0.35, 0.85
#: From 0 to 1, how much of a case's difference a cause accounts for; None: it has nothing to say about the case.
Score = Callable[[Evidence], float | None]
#: The numbers that speak for it, from the cases that differ.
Describe = Callable[[Sequence[Evidence]], str]


@dataclass(frozen=True)
class Hypothesis:
    """A cause that may account for the difference.

    `{other}` and `{given}` in its texts stand for the record that would have the mistake and the one that would not;
    `{gives}` is "gives" of what explains the difference, and something weaker of what only plays a part in it.
    """

    cause: str
    title: str
    remedy: str
    score: Score
    describe: Describe
    #: Among causes that explain the same, the lower comes first: the specific before the general.
    order: int = 0


def predicting(predict: Callable[[Evidence], Prediction | None]) -> Score:
    """Scores a cause by what it predicts."""

    def score(evidence: Evidence) -> float | None:
        prediction = predict(evidence)
        return None if prediction is None else explained(evidence, prediction)

    return score
