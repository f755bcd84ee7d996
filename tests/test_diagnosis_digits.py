"""Each known cause is planted, in plain NumPy, and has to be named: lost digits and clipped logarithms."""

import numpy as np
import pytest
from checks.diagnosis import (
    IGNORED,
    WITH_EXTREME,
    check,
    drawn,
    each_loss,
    explained,
    of,
    one_hot,
    original,
    recorded,
    softmax,
)

from unilossseg import CrossEntropyLoss
from unilossseg.conformance.cases import rounded
from unilossseg.conformance.records.diagnosis import UNKNOWN
from unilossseg.conformance.records.inputs import Recipe, generated


@each_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_result_in_half_precision(loss, dtype):
    def halved(logits, labels):
        value, gradient = of(loss)(logits, labels)
        return rounded(np.asarray(value), dtype), rounded(gradient, dtype).astype(np.float64)

    check(original(loss), recorded(halved), "half precision", dtype)


def test_a_sum_in_half_precision():
    def accumulated(logits, labels):
        _, gradient = of(CrossEntropyLoss())(logits, labels)
        target = one_hot(labels, logits.shape[1])
        losses = -(target * np.log(softmax(logits))).sum(axis=1).ravel().astype(np.float16)
        return np.float16(np.add.accumulate(losses)[-1] / np.float16((labels != IGNORED).sum())), gradient

    check(recorded(of(CrossEntropyLoss())), recorded(accumulated), "half precision", "float16")


@pytest.mark.parametrize(("dtype", "more"), [("bfloat16", 0.1), ("bfloat16", -0.05), ("float16", 0.01)])
def test_values_that_are_all_too_large_or_small_are_not_only_rounded(dtype, more):
    def offset(logits, labels):
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        return rounded(np.asarray(value + more), dtype), gradient

    check(recorded(of(CrossEntropyLoss())), recorded(offset), "half precision", dtype, convincing=False)


@each_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_that_were_rounded_to_half_precision(loss, dtype):
    def halved(logits, labels):
        return of(loss)(rounded(logits, dtype).astype(np.float64), labels)

    # The extremes would be told apart by what float16 cannot hold; these all fit.
    best, *_ = explained(original(loss), recorded(halved))
    assert best.cause == "half precision"
    assert f"rounds the logits to {dtype}" in best.title


DTYPES = ["float16", "bfloat16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_that_is_gone_says_nothing_of_rounded_logits(dtype):
    reference = recorded(of(CrossEntropyLoss()), drawn(dtype), dtype=dtype)
    candidate = recorded(lambda z, y: (of(CrossEntropyLoss())(z, y)[0], None), drawn(dtype), dtype=dtype)
    for pair in ((reference, candidate), (candidate, reference)):
        assert [found.cause for found in explained(*pair)] == ["detached gradient"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_of_the_images_means_says_nothing_of_rounded_logits(dtype):
    def per_image(logits, labels):
        parts = [of(CrossEntropyLoss())(logits[i : i + 1], labels[i : i + 1]) for i in range(len(logits))]
        return np.mean([value for value, _ in parts]), np.concatenate([slope for _, slope in parts]) / len(parts)

    cases = drawn(dtype, (2, 5, 16, 20))
    reference, candidate = (recorded(f, cases, dtype=dtype) for f in (of(CrossEntropyLoss()), per_image))
    for pair in ((reference, candidate), (candidate, reference)):
        assert [found.cause for found in explained(*pair)] == [UNKNOWN]


def test_logits_of_float16_that_were_rounded_to_bfloat16():
    def halved(logits, labels):
        value, gradient = of(CrossEntropyLoss())(rounded(logits, "bfloat16").astype(np.float64), labels)
        return value, rounded(gradient, "bfloat16").astype(np.float64)

    reference = recorded(of(CrossEntropyLoss()), drawn("float16"), dtype="float16")
    candidate = recorded(halved, drawn("float16"), dtype=("float32", "float16"))
    check(reference, candidate, "half precision", "bfloat16")
    # The reference's value is of float16, which does not account for the gradient.
    assert explained(candidate, reference)[0].title == "the reference was computed or accumulated in bfloat16"


# ------------------------------------------------------------------------------------------------ float32 in float64
@pytest.mark.parametrize("dtype", [("float32", "float64"), ("float32", "float32")])
def test_a_value_of_float32_is_no_other_denominator(dtype):
    reference = recorded(of(CrossEntropyLoss()), drawn("float64"), dtype="float64")
    candidate = recorded(of(CrossEntropyLoss()), drawn("float64"), dtype=dtype)
    (found,) = explained(reference, candidate)
    assert found.cause == "single precision"
    assert found.title == "the candidate was computed in float32 or converted to it"
    assert "every number of the candidate's value" in found.evidence


def test_a_value_of_float64_beside_gradients_of_float32_that_agree():
    exact = unknown_product(lambda x: x)

    def rounded_otherwise(logits, labels):
        value, gradient = exact(logits, labels)
        return value, gradient * (1 + 1e-6 * np.sin(np.arange(gradient.size))).reshape(gradient.shape)

    reference = recorded(exact, dtype=("float64", "float32"))
    (found,) = explained(reference, recorded(rounded_otherwise))
    assert (found.cause, found.score) == ("single precision", 0.9)


def noisy(size):
    """Errors without a direction, of a share of the scale."""

    def function(logits, labels):
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        draws = np.random.default_rng(0).uniform(-1, 1, gradient.shape)
        draws -= draws.mean(axis=1, keepdims=True)
        return value, gradient + size * np.abs(gradient).max() * draws * (gradient != 0)

    return function


@pytest.mark.parametrize(
    ("dtype", "size", "cause"),
    [("float32", 5e-5, "rounding"), ("float64", 5e-10, "rounding"), ("float64", 5e-5, UNKNOWN)],
)
def test_rounding_is_as_small_as_the_dtype_allows(dtype, size, cause):
    (found,) = explained(*(recorded(f, drawn(dtype), dtype=dtype) for f in (of(CrossEntropyLoss()), noisy(size))))
    assert found.cause == cause
    assert ("With --dtype float64 it vanishes" in found.remedy) == (dtype == "float32")


def tf32(numbers):
    bits = numbers.astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def test_tf32_in_the_logits():
    def other(logits, labels):
        return of(CrossEntropyLoss())(tf32(logits), labels)

    best, *_ = explained(recorded(of(CrossEntropyLoss())), recorded(other, device="cuda"))
    assert best.cause in ("TF32", "half precision")
    assert "TF32" in best.title or "float16" in best.title


def unknown_product(rounding):
    """A loss with a matrix product inside: the one place where TF32 acts."""
    mixer = np.random.default_rng(3).normal(size=(5, 5))

    def function(logits, labels):
        mixed = np.einsum("ij,njhw->nihw", rounding(mixer), rounding(logits))
        mask = (labels != IGNORED)[:, None]
        slope = np.einsum("ij,nihw->njhw", rounding(mixer), rounding(2 * mixed * mask))
        return (mixed**2 * mask).mean(), slope / mixed.size

    return function


@pytest.mark.parametrize("device", ["cuda:0", "cpu"])
def test_errors_of_the_size_of_tf32(device):
    reference, candidate = recorded(unknown_product(lambda x: x)), recorded(unknown_product(tf32), device=device)
    on_gpu = device == "cuda:0"
    cause = "TF32 or half precision" if on_gpu else "half precision"
    best = check(reference, candidate, cause, "2**-11", "out of autocast", convincing=False)
    assert (best.score > 0.5) == on_gpu
    # No CPU has TF32.
    assert ("TF32" in best.title + best.evidence + best.remedy) == on_gpu


@pytest.mark.parametrize("size", [1.0, 12.0])
def test_errors_in_some_cases_or_of_another_size_are_not_those_of_half_precision(size):
    """Digits are lost in every case; and of more than bfloat16's step in none."""
    exact = recorded(unknown_product(lambda x: x))

    def in_some(logits, labels):
        value, gradient = unknown_product(lambda x: x)(logits, labels)
        if size == 1.0 and not (labels == IGNORED).any():
            return value, gradient
        signs = np.random.default_rng(0).choice([-1, 1], gradient.shape)
        return value, gradient + size * 1e-3 * np.abs(gradient).max() * signs * (gradient != 0)

    found = explained(exact, recorded(in_some, device="cuda:0"))
    assert "half precision" not in " ".join(one.title for one in found)


@pytest.mark.parametrize("cap", [-np.log(1e-5), -np.log(1e-7), 64.0, -np.log(2.0**-126), 100.0])
def test_a_clipped_logarithm(cap):
    def clipped(logits, labels):
        _, gradient = of(CrossEntropyLoss())(logits, labels)
        z = logits - logits.max(axis=1, keepdims=True)
        losses = ((np.log(np.exp(z).sum(axis=1, keepdims=True)) - z) * one_hot(labels, z.shape[1])).sum(axis=1)
        return np.minimum(losses, cap).sum() / (labels != IGNORED).sum(), gradient * (losses < cap)[:, None]

    best = check(recorded(of(CrossEntropyLoss()), WITH_EXTREME), recorded(clipped, WITH_EXTREME), "logarithm clipped")
    assert f"{cap:.4g}" in best.title
    assert "extreme" in best.cases


@pytest.mark.parametrize("eps", [1e-5, 1e-7])
def test_an_epsilon_in_the_logarithm(eps):
    def softened(logits, labels):
        target, count = one_hot(labels, logits.shape[1]), (labels != IGNORED).sum()
        p = softmax(logits)
        slope = -target / (p + eps) / count
        return -(target * np.log(p + eps)).sum() / count, p * (slope - (slope * p).sum(axis=1, keepdims=True))

    best = check(recorded(of(CrossEntropyLoss()), WITH_EXTREME), recorded(softened, WITH_EXTREME), "logarithm clipped")
    assert "epsilon" in best.title
    assert f"{eps:g}" in best.title
    # Of the cases, that with the largest loss speaks for it.
    assert "(extreme), up to" in best.evidence
    assert not best.evidence.startswith("0 of")


def test_losses_of_pixels_that_are_capped():
    def pixels(cap):
        def function(logits, labels):
            target = one_hot(labels, logits.shape[1])
            z = logits - logits.max(axis=1, keepdims=True)
            losses = ((np.log(np.exp(z).sum(axis=1, keepdims=True)) - z) * target).sum(axis=1)
            slope = (softmax(logits) - target) * (labels != IGNORED)[:, None]
            return np.minimum(losses, cap), slope * (losses < cap)[:, None]

        return function

    extreme = generated(Recipe((2, 5, 20, 20)), ["extreme"])
    reference = recorded(pixels(np.inf), extreme, upstream=True)
    candidate = recorded(pixels(87.33655), extreme, upstream=True)
    best, *_ = explained(reference, candidate)
    assert best.cause == "values capped"
    assert "the candidate's losses are capped" in best.title
