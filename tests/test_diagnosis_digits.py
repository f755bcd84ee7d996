"""Each known cause is planted, in plain NumPy, and has to be named: lost digits and clipped logarithms."""

import numpy as np
import pytest
from checks.diagnosis import (
    IGNORED,
    WITH_EXTREME,
    check,
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


@each_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_that_were_rounded_to_half_precision(loss, dtype):
    def halved(logits, labels):
        return of(loss)(rounded(logits, dtype).astype(np.float64), labels)

    # The extremes would be told apart by what float16 cannot hold; these all fit.
    best, *_ = explained(original(loss), recorded(halved))
    assert best.cause == "half precision"
    assert f"rounds the logits to {dtype}" in best.title


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
    best = check(reference, candidate, "TF32 or half precision", "2**-11", convincing=False)
    assert (best.score > 0.5) == (device == "cuda:0")


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
