"""What a diagnosis may say: no cause that spoils one part, the arguments that the records state, and logits of any form."""

import itertools

import numpy as np
import pytest
from checks.diagnosis import CASES, check, explained, of, recorded

import unilossseg
from unilossseg import BCELoss, CrossEntropyLoss, DiceLoss
from unilossseg.conformance.cases import rounded
from unilossseg.conformance.records.causes_precision import hypotheses
from unilossseg.conformance.records.comparison import compare
from unilossseg.conformance.records.diagnosis import UNKNOWN, diagnose
from unilossseg.conformance.records.evidence import Evidence, Prediction, sides
from unilossseg.conformance.records.evidence import explained as share
from unilossseg.conformance.records.inputs import Recipe, generated
from unilossseg.conformance.records.models import Model
from unilossseg.conformance.records.record import Record, RecordedCase, Stored

PLAIN = {"plain": CASES["plain"]}


def stated(loss, kwargs, cases=PLAIN):
    """The record of a loss of this package under its own name, made with some arguments."""
    return recorded(of(loss(**kwargs)), cases, target=f"unilossseg:{loss.__name__}", kwargs=kwargs)


# ------------------------------------------------------------------------------------------------ parts that are spoiled
def evidence():
    """Values 1 and 2, gradients half of the scale apart."""
    given, other = (lambda z, y, n=n: (n, np.full_like(z, n)) for n in (1.0, 2.0))
    (verdict,) = compare(recorded(given, PLAIN), recorded(other, PLAIN))
    return Evidence.of(verdict, 255)


@pytest.mark.parametrize(
    ("value", "gradient", "expected"),
    [
        (2.0, 2.0, 1.0),
        (2.0, 1.0, 0.5),
        (2.0, None, 0.5),
        # Farther off than what is there: by a tenth, by all that the value explains, and by more.
        (2.0, 0.9, 0.45),
        (2.0, 0.0, 0.0),
        (2.0, -5.0, 0.0),
        (1.0, -5.0, 0.0),
    ],
)
def test_a_part_that_is_spoiled_counts_against_a_cause(value, gradient, expected):
    case = evidence()
    prediction = Prediction(np.asarray(value), None if gradient is None else np.full_like(case.logits, gradient))
    assert share(case, prediction) == pytest.approx(expected)


def test_a_softmax_over_another_axis_is_not_seen_in_the_value_alone():
    def candidate(logits, labels):
        # The value of a softmax over the rows, and a gradient that has nothing to do with it.
        z = logits - logits.max(axis=2, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(axis=2, keepdims=True)
        value = -np.log(np.take_along_axis(p, labels[:, None], axis=1)).mean()
        return value, of(CrossEntropyLoss())(logits, labels)[1] * np.where(labels == 1, 2.0, 0.5)[:, None]

    found = explained(stated(CrossEntropyLoss, {}), recorded(candidate, PLAIN))
    assert "wrong class axis" not in [explanation.cause for explanation in found]


def test_what_only_plays_a_part_does_not_give_the_numbers():
    def mostly(logits, labels):
        value, gradient = of(DiceLoss(smooth=1.0))(logits, labels)
        other, its_gradient = of(DiceLoss())(logits, labels)
        return 0.8 * value + 0.2 * other, 0.6 * gradient + 0.4 * its_gradient

    reference = recorded(of(DiceLoss()), PLAIN)
    (part,) = [found for found in explained(reference, recorded(mostly, PLAIN)) if found.cause == "another smooth"]
    assert part.certainty == "may play a part"
    assert part.evidence == "DiceLoss, computed with smooth=1.0, comes nearer to the candidate's numbers"
    (whole,) = explained(reference, recorded(of(DiceLoss(smooth=1.0)), PLAIN))
    assert whole.evidence == "DiceLoss, computed with smooth=1.0, gives the candidate's numbers"


def test_a_model_computes_a_case_once(monkeypatch):
    computed = []
    compute = unilossseg.value_and_grad
    monkeypatch.setattr(unilossseg, "value_and_grad", lambda loss: computed.append(loss) or compute(loss))
    case, model = evidence(), Model(CrossEntropyLoss())
    plain = model.result(case)
    assert model.result(case) is plain
    assert len(computed) == 1
    # Another direction is another case, and other logits are another result.
    model.result(case.flipped)
    assert model.result(case, logits=case.logits / 2).value != plain.value
    assert model.result(case, labels=np.zeros_like(case.labels)).value != plain.value
    assert len(computed) == 4


# ------------------------------------------------------------------------------------------------ numbers of a half type
def l1(weighted=lambda z: 1.0):
    """The mean distance from fixed numbers, and its gradient, perhaps with a weight for each element."""

    def function(logits, labels):
        apart = logits - np.random.default_rng(1).normal(size=logits.shape)
        weights = weighted(logits)
        return (weights * np.abs(apart)).mean(), weights * np.sign(apart) / logits.size

    return function


@pytest.mark.parametrize("spread", [0.2, 0.02])
def test_powers_of_two_are_no_sign_of_bfloat16(spread):
    """8192 elements: every entry of an L1 gradient is 2**-13 or -2**-13, which any half type holds."""
    cases = generated(Recipe((2, 4, 32, 32)), ["plain"])
    reference = recorded(l1(lambda z: 1 + spread * np.random.default_rng(2).uniform(-1, 1, z.shape)), cases)
    candidate = recorded(l1(), cases)
    assert {*np.abs(candidate.cases[0].gradient.wide()).ravel()} == {2.0**-13}
    for found in (*explained(reference, candidate), *explained(candidate, reference)):
        assert "was computed or accumulated in" not in found.title


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("quantity", ["value", "gradient"])
def test_few_numbers_are_a_sign_of_a_half_type_that_gives_them(dtype, quantity):
    """1000 elements: a gradient of 0.001, which a half type rounds; and a value, which is a single number anyway."""
    cases = generated(Recipe((2, 5, 10, 10)), ["plain"])

    def halved(logits, labels):
        found = dict(zip(("value", "gradient"), l1()(logits, labels), strict=True))
        found[quantity] = rounded(np.asarray(found[quantity]), dtype).astype(np.float64)
        return found["value"], found["gradient"]

    reference, candidate = recorded(l1(), cases), recorded(halved, cases)
    (verdict,) = compare(reference, candidate)
    case = Evidence.of(verdict, 255)
    (cause,) = [one for one in hypotheses([case], *sides(reference, candidate), None) if f"in {dtype}" in one.title]
    assert cause.score(case) == 0.9
    assert cause.score(case.flipped) == 0.0
    assert f"every number of the {{other}}'s {quantity} is one of {dtype}" in cause.describe([case])


# ------------------------------------------------------------------------------------------------ arguments that are stated
@pytest.mark.parametrize(
    ("loss", "kwargs", "words"),
    [
        (CrossEntropyLoss, {"ignore_index": 0}, "the candidate has ignore_index=0, the reference ignore_index=255"),
        (DiceLoss, {"ignore_index": 0}, "the candidate has ignore_index=0, the reference ignore_index=255"),
        (BCELoss, {"pos_weight": 2.0}, "the candidate has pos_weight=2.0, the reference pos_weight=None"),
        (CrossEntropyLoss, {"top_k_percent_pixels": 0.5}, "the candidate has top_k_percent_pixels=0.5, the reference"),
    ],
)
def test_an_argument_that_differs_is_the_cause(loss, kwargs, words):
    (name,) = kwargs
    check(stated(loss, {}), stated(loss, kwargs), f"another {name}", words, "gives the candidate's numbers")


def test_several_arguments_are_the_cause_together():
    kwargs = {"ignore_index": 0, "weight": [1.0, 5.0, 1.0, 1.0, 3.0]}
    words = "weight=(1.0, 5.0, 1.0, 1.0, 3.0) and ignore_index=0, the reference weight=None and ignore_index=255"
    check(stated(CrossEntropyLoss, {}), stated(CrossEntropyLoss, kwargs), "another weight and ignore_index", words)


def test_an_argument_that_accounts_for_nothing_is_not_named():
    candidate = recorded(of(BCELoss()), PLAIN, target="unilossseg:CrossEntropyLoss", kwargs={"ignore_index": 0})
    assert "another ignore_index" not in [found.cause for found in explained(stated(CrossEntropyLoss, {}), candidate)]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"ignore_index": 10**30},
        {"ignore_index": "{0}"},
        {"weight": {"a": 1}},
        {"weight": "{x}", "top_k_percent_pixels": [1]},
        {"top_k_percent_pixels": "{other"},
        {"avg_non_ignore": {}},
        {"compute": 3, "__init__": None, "no such argument": 1},
    ],
)
def test_arguments_of_a_record_are_data(kwargs):
    candidate = recorded(of(DiceLoss()), PLAIN, target="unilossseg:CrossEntropyLoss", kwargs=kwargs)
    assert explained(stated(CrossEntropyLoss, {}), candidate)
    assert explained(candidate, stated(CrossEntropyLoss, {}))


# ------------------------------------------------------------------------------------------------ logits of any form
SHAPES = [(), (1,), (7,), (2, 3), (2, 1), (2, 3, 4)]


def made(name, logits, labels, value, seed):
    """A case of numbers that mean nothing; several entries of the value are its largest."""
    draws = np.random.default_rng(seed)
    inputs = {"logits": Stored.of(np.ones(logits, np.float32)), "labels": Stored.of(np.zeros(labels, np.int64))}
    gradient = Stored.of(draws.normal(size=logits).astype(np.float32))
    return RecordedCase(name, inputs, Stored.of(draws.integers(0, 2, value).astype(np.float32)), gradient)


@pytest.mark.parametrize("loss", ["L1Loss", "CrossEntropyLoss", "criterion"])
@pytest.mark.parametrize("logits", SHAPES, ids=str)
def test_logits_without_an_axis_of_classes_can_be_diagnosed(loss, logits):
    for labels, value in itertools.product({logits, logits[:1] + logits[2:]}, SHAPES):
        sides = [
            Record(
                f"unilossseg:{loss}",
                {"weight": [1.0, 2.0, 3.0]},
                255,
                0,
                {"framework": "numpy"},
                (made("one", logits, labels, value, seed), made("other", (2, 4, 3), (2, 3), (), 9)),
            )
            for seed in (0, 1)
        ]
        found = diagnose(*sides, compare(*sides))
        assert found, (labels, value)
        assert {name for explanation in found for name in explanation.cases} <= {"one"}


def test_a_distance_of_vectors_is_diagnosed():
    draws = np.random.default_rng(0)
    vector = {"logits": Stored.of(draws.normal(size=7)), "labels": Stored.of(draws.normal(size=7))}

    def distance(z, y):
        return np.abs(z - y).mean(), np.sign(z - y) / z.size

    def doubled(z, y):
        return 2 * distance(z, y)[0], 2 * distance(z, y)[1]

    (found,) = explained(recorded(distance, {"vector": vector}), recorded(doubled, {"vector": vector}))
    assert found.cause != UNKNOWN
    assert "times 2" in found.title
