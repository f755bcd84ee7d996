"""Names known causes of a difference, the best explanation of the numbers first, and says so where none explains them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unilossseg.conformance.records import (
    causes_gradient,
    causes_lists,
    causes_model,
    causes_precision,
    causes_scale,
    causes_terms,
)
from unilossseg.conformance.records.comparison import Verdict
from unilossseg.conformance.records.evidence import Evidence, Side, distance, sides
from unilossseg.conformance.records.hypothesis import CONVINCING, POSSIBLE, Hypothesis
from unilossseg.conformance.records.models import fitting
from unilossseg.conformance.records.record import Record

MOST = 4
#: From this order on, causes say how much and not why.
NAMELESS = 20
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Explanation:
    """A cause, and what speaks for it."""

    cause: str
    title: str
    evidence: str
    remedy: str
    #: How much of the difference it accounts for, from 0 to 1, over all cases.
    score: float
    cases: tuple[str, ...]

    @property
    def certainty(self) -> str:
        """The score in words."""
        if self.cause == UNKNOWN:
            return "no known cause"
        return "explains the difference" if self.score >= CONVINCING else "may play a part"


def diagnose(reference: Record, candidate: Record, verdicts: Sequence[Verdict]) -> list[Explanation]:
    """Explanations of what differs between two records, the best first; one of `unknown` where nothing fits.

    Empty if nothing differs.
    """
    forward = [Evidence.of(verdict, reference.ignore_index, _data_format(reference, candidate)) for verdict in verdicts]
    beside = list(_beside_the_numbers(verdicts, forward))
    if all(case.same for case in forward):
        return beside
    return [*_of_the_numbers(reference, candidate, forward), *beside]


def _data_format(reference: Record, candidate: Record) -> object:
    """Where the logits' classes are, as far as the arguments say."""
    given, other = sides(reference, candidate)
    told = [side.kwargs.get("data_format") for side in (given, other)]
    # One loss that is told two formats differs by them, and the logits stay as they are for both.
    if given.class_name == other.class_name and told[0] != told[1]:
        return None
    return told[1] if told[0] is None else told[0]


def _of_the_numbers(reference: Record, candidate: Record, forward: Sequence[Evidence]) -> list[Explanation]:
    given, other = sides(reference, candidate)
    backward = [case.flipped for case in forward]
    # Suspicions are tried on any numbers, also on those that overflow: what is not finite explains nothing.
    with np.errstate(all="ignore"):
        found = [*_explanations(forward, given, other), *_explanations(backward, other, given)]
    # The sort is stable: where both directions explain the same, the candidate is named as the odd one.
    found.sort(key=lambda pair: (-round(pair[1].score, 2), pair[0]))
    kept: dict[str, tuple[int, Explanation]] = {}
    for order, explanation in found:
        kept.setdefault(explanation.cause, (order, explanation))
    best = list(kept.values())
    if best and best[0][1].score >= CONVINCING:
        # Beside one that explains all, those that explain some are noise, and so are constants without a name.
        first, enough = best[0][0], best[0][1].score - 0.05
        best = [
            (order, explanation)
            for order, explanation in best
            if explanation.score >= enough and (order < NAMELESS or first >= NAMELESS)
        ]
    return [explanation for _, explanation in best[:MOST]] or [_unknown(forward)]


def _beside_the_numbers(verdicts: Sequence[Verdict], evidence: Sequence[Evidence]) -> Iterator[Explanation]:
    """What makes cases different whose numbers are no further apart than the table allows."""
    alike = [(verdict, case) for verdict, case in zip(verdicts, evidence, strict=True) if case.same and not verdict.same]
    dtypes = [(verdict, case) for verdict, case in alike if _dtypes(verdict)]
    if dtypes:
        different = _dtypes(dtypes[0][0])
        first = next(iter(different))
        yield Explanation(
            cause="dtype alone",
            title="the numbers agree, but the "
            + " and the ".join(
                f"{quantity} has dtype {mine} in the reference, {theirs} in the candidate"
                for quantity, (mine, theirs) in different.items()
            ),
            evidence="; ".join(_numbers(verdict, case) for verdict, case in dtypes[:4]),
            remedy="Harmless, unless what comes after it asks for the dtype. For a comparison without it, convert the "
            f"{first} in one of the two, as with .float() in torch or .astype('float32') in Paddle and NumPy.",
            score=1.0,
            cases=tuple(verdict.name for verdict, _ in dtypes),
        )
    lists = [(verdict, case) for verdict, case in alike if verdict.reference.listed != verdict.candidate.listed]
    if lists:
        who = ("reference", "candidate") if lists[0][0].reference.listed else ("candidate", "reference")
        yield Explanation(
            cause="list alone",
            title="the numbers agree, but the {} returns a list of one loss, the {} the loss itself".format(*who),
            evidence="; ".join(_numbers(verdict, case) for verdict, case in lists[:4]),
            remedy=f"Take the loss out of the {who[0]}'s list, losses[0] or sum(losses).",
            score=1.0,
            cases=tuple(verdict.name for verdict, _ in lists),
        )
    close = [verdict for verdict, _ in alike if not any(part.structure for part in verdict.parts)]
    if close:
        worst = [(max(verdict.parts, key=lambda part: part.ratio), verdict.name) for verdict in close[:4]]
        yield Explanation(
            cause="tolerance",
            title="the numbers agree as far as two roundings may; only the user's own tolerance is narrower",
            evidence=", ".join(
                f"{part.quantity} error {part.error:.2e} of {part.bound:.2e} allowed ({name})" for part, name in worst
            ),
            remedy="Leave out --value-tolerance and --gradient-tolerance, or allow for what is shown as error.",
            score=1.0,
            cases=tuple(verdict.name for verdict in close),
        )


def _dtypes(verdict: Verdict) -> dict[str, tuple[str, str]]:
    """The two dtypes of each quantity that has another in the candidate."""
    mine, theirs = (
        {role: stored.dtype for role, stored in side.arrays()} for side in (verdict.reference, verdict.candidate)
    )
    # Where no upstream gradient is given, each record draws one in the dtype of its value.
    words = {"value": "value", "gradient": "gradient", "upstream": "upstream gradient"}
    return {
        word: (mine[role], theirs[role])
        for role, word in words.items()
        if role in mine and role in theirs and mine[role] != theirs[role]
    }


def _numbers(verdict: Verdict, case: Evidence) -> str:
    """The first number of either value, and how far apart the two records are."""
    mine, theirs = (side.value.wide().ravel()[0] for side in (verdict.reference, verdict.candidate))
    apart = max(case.apart(case.other.value, case.given.value), distance(case.other.gradient, case.given.gradient))
    values = f"value {mine:.7g} in the reference, {theirs:.7g} in the candidate"
    return f"{values}; at most {apart:.2g} of the scale apart ({verdict.name})"


def _explanations(evidence: Sequence[Evidence], given: Side, other: Side) -> Iterator[tuple[int, Explanation]]:
    differing = [case for case in evidence if not case.same]
    for hypothesis in _hypotheses(evidence, differing, given, other):
        score = _scored(hypothesis, evidence)
        if score < POSSIBLE:
            continue
        spoken = [case for case in differing if (hypothesis.score(case) or 0.0) >= POSSIBLE] or differing
        gives = "gives" if score >= CONVINCING else "comes nearer to"
        names = {"given": given.who, "other": other.who, "gives": gives}
        texts = hypothesis.title, hypothesis.describe(spoken), hypothesis.remedy
        title, evidence_in_words, remedy = (text.format(**names) for text in texts)
        # What is said of axes and indices holds for the classes on axis 1.
        if any(case.moved for case in spoken) and any(word in " ".join(texts) for word in ("axis", "logits[")):
            evidence_in_words += "; axes are counted with the classes, which are last here, on axis 1"
        yield (
            hypothesis.order,
            Explanation(
                cause=hypothesis.cause,
                title=title,
                evidence=evidence_in_words,
                remedy=remedy,
                score=score,
                cases=tuple(case.name for case in spoken),
            ),
        )


def _hypotheses(
    evidence: Sequence[Evidence], differing: Sequence[Evidence], given: Side, other: Side
) -> Iterator[Hypothesis]:
    yield from causes_gradient.hypotheses(differing)
    yield from causes_scale.hypotheses(differing, given, other)
    yield from causes_lists.hypotheses(differing)
    yield from causes_terms.hypotheses(differing)
    model = fitting(given, evidence)
    yield from causes_precision.hypotheses(differing, given, other, model)
    if model is not None:
        yield from causes_model.hypotheses(differing, given, other, model)


def _scored(hypothesis: Hypothesis, evidence: Sequence[Evidence]) -> float:
    """The mean over the cases that differ; less where cases agree although the cause says that they should not."""
    different = [hypothesis.score(case) or 0.0 for case in evidence if not case.same]
    agreeing = [score for case in evidence if case.same and (score := hypothesis.score(case)) is not None]
    consistent = sum(score >= 0.5 for score in agreeing) / len(agreeing) if agreeing else 1.0
    return sum(different) / len(different) * consistent**2


def _unknown(evidence: Sequence[Evidence]) -> Explanation:
    differing = tuple(case.name for case in evidence if not case.same)
    agreeing = tuple(case.name for case in evidence if case.same)
    return Explanation(
        cause=UNKNOWN,
        title="no known cause accounts for these numbers",
        evidence=f"different: {', '.join(differing)}; the same: {', '.join(agreeing) or 'none'}",
        remedy="Compare with --case one condition at a time, in float64, from the plainest parameters on; or compare the "
        "losses of single pixels (reduction='none').",
        score=0.0,
        cases=differing,
    )
