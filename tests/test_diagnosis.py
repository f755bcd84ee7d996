"""Each known cause is planted, in plain NumPy, and has to be named; what has no known cause has to be called unknown."""

import numpy as np
import pytest

import unilossseg
from unilossseg import BCELoss, CrossEntropyLoss, DiceLoss, L1Loss, LovaszSoftmaxLoss, OhemCrossEntropyLoss, value_and_grad
from unilossseg.conformance.cases import rounded
from unilossseg.conformance.records.comparison import compare
from unilossseg.conformance.records.diagnosis import UNKNOWN, diagnose
from unilossseg.conformance.records.inputs import GENERATED, ON_REQUEST, Recipe, generated, upstream_for
from unilossseg.conformance.records.record import Record, RecordedCase, Stored

IGNORED = 255
RECIPE = Recipe(shape=(2, 5, 8, 9))
CASES = generated(RECIPE)
WITH_EXTREME = generated(Recipe(shape=(2, 5, 20, 20)), GENERATED + ON_REQUEST)


def recorded(function, cases=CASES, target="my:criterion", kwargs=None, device="cpu", upstream=False, repeatable=True):
    """The record of a function from (logits, labels) to (value, gradient), computed in float64 and kept in float32."""
    found = []
    for name, inputs in cases.items():
        logits, labels = inputs["logits"].wide(), inputs["labels"].data
        value, gradient = function(logits, labels)
        shape = np.shape(value)
        value = Stored.of(np.asarray(value, dtype=np.float32))
        drawn = upstream_for(name, 0, shape, "float32") if upstream and shape else None
        if drawn is not None and gradient is not None:
            weights = drawn.wide()
            gradient = gradient * (weights if weights.ndim == gradient.ndim else weights[:, None])
        gradient = None if gradient is None else Stored.of(gradient.astype(np.float32))
        found.append(RecordedCase(name, inputs, value, gradient, upstream=drawn, repeatable=repeatable))
    return Record(target, kwargs or {}, IGNORED, 0, {"framework": "numpy", "device": device}, tuple(found))


def explained(reference, candidate):
    return diagnose(reference, candidate, compare(reference, candidate))


def of(loss):
    return value_and_grad(loss)


def original(loss):
    """The record of a loss of this package under its own name."""
    kwargs = {"min_kept": loss.min_kept} if hasattr(loss, "min_kept") else {}
    return recorded(of(loss), target=f"unilossseg:{loss.name}", kwargs=kwargs)


def check(reference, candidate, cause, *words, convincing=True):
    """The best explanation is the cause, and the other way round it blames the other record."""
    best, *_ = explained(reference, candidate)
    assert best.cause == cause, best
    assert (best.certainty == "explains the difference") == convincing, best
    text = f"{best.title} | {best.evidence} | {best.remedy}"
    for word in words:
        assert word in text, text
    assert best.evidence
    assert best.remedy
    back, *_ = explained(candidate, reference)
    assert back.cause == cause, back
    return best


def softmax(logits, axis=1):
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def one_hot(labels, classes):
    shape = (1, classes, *[1] * (labels.ndim - 1))
    return (labels[:, None] == np.arange(classes).reshape(shape)) * 1.0


LOSSES = [CrossEntropyLoss(), DiceLoss(), LovaszSoftmaxLoss(), BCELoss(), OhemCrossEntropyLoss(min_kept=20)]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


def test_what_agrees_needs_no_explanation():
    one = recorded(of(DiceLoss()))
    assert explained(one, one) == []


# --- a factor ---------------------------------------------------------------------------------------------------------


def times(loss, factor, of_value=True):
    def function(logits, labels):
        value, gradient = of(loss)(logits, labels)
        number = factor(logits, labels)
        return (value * number if of_value else value), gradient * number

    return function


def valid_share(logits, labels):
    return (labels != IGNORED).mean()


@each_loss
def test_denominators_that_count_ignored_pixels(loss):
    best = check(
        original(loss),
        recorded(times(loss, valid_share)),
        "ignored pixels in the denominator",
        "the candidate divides by all pixels",
        "valid pixels ÷ all pixels",
    )
    assert set(best.cases) == {"ignored", "absent", "single"}


COUNTS = {
    "valid pixels": lambda z, y: (y != IGNORED).sum(),
    "pixels of the batch": lambda z, y: y.size,
    "images": lambda z, y: z.shape[0],
    "pixels of an image": lambda z, y: y[0].size,
    "classes": lambda z, y: z.shape[1],
    "entries of the logits": lambda z, y: z.size,
    "valid pixels times classes": lambda z, y: (y != IGNORED).sum() * z.shape[1],
    "images times classes": lambda z, y: z.shape[0] * z.shape[1],
}


@pytest.mark.parametrize("words", COUNTS)
def test_sums_in_place_of_means(words):
    reference, candidate = (recorded(f) for f in (of(CrossEntropyLoss()), times(CrossEntropyLoss(), COUNTS[words])))
    best = check(reference, candidate, "sum in place of mean", "the candidate sums where the reference takes a mean")
    assert best.title.endswith(f"the number of {words}")
    assert explained(candidate, reference)[0].title.startswith("the reference sums")


@each_loss
@pytest.mark.parametrize("base", [2, 10])
def test_logarithms_to_another_base(loss, base):
    other = recorded(times(loss, lambda z, y: 1 / np.log(base)))
    check(original(loss), other, "base of the logarithm", f"base {base}")


WEIGHTS = [0.5, 2.0, 1.0, 3.0, 0.25]


def mean_weight(logits, labels):
    return np.asarray(WEIGHTS)[labels[labels != IGNORED]].mean()


def test_class_weights_that_are_not_normalised():
    loss = CrossEntropyLoss(weight=WEIGHTS)
    kwargs = {"weight": WEIGHTS}
    reference = recorded(of(loss), kwargs=kwargs)
    candidate = recorded(times(loss, mean_weight), kwargs=kwargs)
    check(reference, candidate, "class weights not normalised", "the candidate does not divide by the class weights")


def test_class_weights_that_are_missing():
    reference = recorded(of(CrossEntropyLoss(weight=WEIGHTS)), kwargs={"weight": WEIGHTS})
    check(reference, recorded(of(CrossEntropyLoss())), "another weight", "the candidate has weight=None")


@pytest.mark.parametrize("factor", [0.4, 3.7, -1.0])
def test_a_constant_without_a_name(factor):
    other = recorded(times(DiceLoss(), lambda z, y: factor))
    check(recorded(of(DiceLoss())), other, "constant factor", "the candidate is the reference times")


@pytest.mark.parametrize("factor", [0.5, 3.7])
def test_a_scaled_gradient(factor):
    other = recorded(times(DiceLoss(), lambda z, y: factor, of_value=False))
    check(recorded(of(DiceLoss())), other, "gradient scaled", "gradient is the reference's times")


def test_a_slightly_different_denominator():
    def other(logits, labels):
        valid = (labels != IGNORED).mean()
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        return value * valid / (valid + 1e-4), gradient * valid / (valid + 1e-4)

    check(recorded(of(CrossEntropyLoss())), recorded(other), "denominator", "epsilon")


# --- softmax and classes ----------------------------------------------------------------------------------------------


@each_loss
def test_softmax_twice(loss):
    def twice(logits, labels):
        p = softmax(logits)
        value, slope = of(loss)(p, labels)
        return value, p * (slope - (slope * p).sum(axis=1, keepdims=True))

    check(original(loss), recorded(twice), "softmax twice", "the candidate applies softmax twice")


def nll_of_logits(logits, labels):
    target, count = one_hot(labels, logits.shape[1]), (labels != IGNORED).sum()
    return -(target * logits).sum() / count, -target / count


def test_no_softmax_in_cross_entropy():
    check(recorded(of(CrossEntropyLoss())), recorded(nll_of_logits), "softmax missing", "the candidate takes logits")


def test_no_softmax_in_dice():
    def raw(logits, labels):
        target, mask = one_hot(labels, logits.shape[1]), (labels != IGNORED)[:, None]
        shared = 2 * (target * logits).sum(axis=(2, 3), keepdims=True)
        total = ((target + logits) * mask).sum(axis=(2, 3), keepdims=True) + 1e-8
        slope = (shared - 2 * target * total) / total**2 * mask
        return (1 - shared / total).mean(), slope / shared.size

    check(recorded(of(DiceLoss())), recorded(raw), "softmax missing", "the candidate takes logits for probabilities")


def test_no_softmax_in_a_loss_that_nobody_knows():
    def unknown(activation, back):
        def function(logits, labels):
            target, mask = one_hot(labels, logits.shape[1]), (labels != IGNORED)[:, None]
            p = activation(logits)
            slope = 3 * np.abs(p - target) ** 2 * np.sign(p - target) * mask
            return (np.abs(p - target) ** 3 * mask).sum(), back(p, slope)

        return function

    reference = unknown(softmax, lambda p, g: p * (g - (g * p).sum(axis=1, keepdims=True)))
    candidate = unknown(lambda z: 1 / (1 + np.exp(-z)), lambda p, g: g * p * (1 - p))
    check(recorded(reference), recorded(candidate), "softmax missing", "(softmax makes it 0)", convincing=False)


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_softmax_over_another_axis(axis):
    def other(logits, labels):
        target, count = one_hot(labels, logits.shape[1]), (labels != IGNORED).sum()
        p = softmax(logits, axis)
        value = -(np.log(p) * target).sum() / count
        return value, (p * target.sum(axis=axis, keepdims=True) - target) / count

    cases = {name: inputs for name, inputs in CASES.items() if name != "confident" and not (axis == 0 and name == "single")}
    reference, candidate = recorded(of(CrossEntropyLoss()), cases), recorded(other, cases)
    check(reference, candidate, "wrong class axis", f"softmax over axis {axis}")


@each_loss
def test_logits_that_are_reshaped_in_place_of_transposed(loss):
    def reshaped(logits, labels):
        flat = logits.reshape(-1, logits.shape[1])
        value, gradient = of(loss)(flat, labels.reshape(-1))
        return value, gradient.reshape(logits.shape)

    # Dice of flat pixels is another thing: each pixel would be an image.
    cause = "wrong class axis" if loss.name != "DiceLoss" else None
    found = explained(original(loss), recorded(reshaped))
    assert cause is None or found[0].cause == cause, found


@each_loss
@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("end", ["wrap", "ignore", "clip"])
def test_labels_that_are_shifted_by_one(loss, step, end):
    def shifted(logits, labels):
        classes = logits.shape[1]
        moved = labels + step
        outside = (moved < 0) | (moved >= classes)
        if end == "ignore":
            moved = np.where(outside, IGNORED, moved)
        else:
            moved = moved % classes if end == "wrap" else np.clip(moved, 0, classes - 1)
        return of(loss)(logits, np.where(labels == IGNORED, IGNORED, moved))

    words = "one higher" if step > 0 else "one lower"
    check(original(loss), recorded(shifted), "labels shifted by one")
    assert words in explained(original(loss), recorded(shifted))[0].title


def test_labels_that_are_shifted_by_one_in_a_loss_that_nobody_knows():
    def fourth_powers(step):
        def function(logits, labels):
            target = one_hot(np.where(labels == IGNORED, IGNORED, (labels + step) % 5), 5)
            p, mask = softmax(logits), (labels != IGNORED)[:, None]
            slope = 4 * (p - target) ** 3 * mask
            return ((p - target) ** 4 * mask).sum(), p * (slope - (slope * p).sum(axis=1, keepdims=True))

        return function

    check(recorded(fourth_powers(0)), recorded(fourth_powers(1)), "labels shifted by one", "channel", convincing=False)


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), DiceLoss(), LovaszSoftmaxLoss()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (1, 0, 2, 3, 4), (2, 0, 1, 4, 3)])
def test_classes_in_another_order(loss, order):
    def reordered(logits, labels):
        value, gradient = of(loss)(np.ascontiguousarray(logits[:, order]), labels)
        back = np.empty_like(gradient)
        back[:, order] = gradient
        return value, back

    check(original(loss), recorded(reordered), "classes in another order")
    assert ", ".join(map(str, order)) in explained(original(loss), recorded(reordered))[0].title


@each_loss
def test_a_gradient_whose_classes_are_permuted(loss):
    def permuted(logits, labels):
        value, gradient = of(loss)(logits, labels)
        return value, gradient[:, [1, 2, 0, 4, 3]]

    check(original(loss), recorded(permuted), "gradient permuted", "(1, 2, 0, 4, 3)")


@each_loss
def test_a_gradient_in_another_memory_order(loss):
    def relaid(logits, labels):
        value, gradient = of(loss)(logits, labels)
        return value, np.moveaxis(gradient, 1, -1).reshape(gradient.shape)

    best, *_ = explained(original(loss), recorded(relaid))
    assert best.cause == "gradient permuted"
    assert "channels-last" in best.title


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_another_smooth(smooth):
    reference, candidate = recorded(of(DiceLoss(smooth=smooth))), recorded(of(DiceLoss(smooth=1 - smooth)))
    check(reference, candidate, "another smooth", f"the candidate has smooth={1 - smooth}")


def test_another_variant():
    reference = recorded(
        of(OhemCrossEntropyLoss(min_kept=20)), target="unilossseg:OhemCrossEntropyLoss", kwargs={"min_kept": 20}
    )
    loss = OhemCrossEntropyLoss(min_kept=20, variant="corrected")
    check(reference, original(loss), "another variant", "variant='corrected'")


# --- the gradient -----------------------------------------------------------------------------------------------------


@each_loss
@pytest.mark.parametrize("missing", [True, False])
def test_a_detached_gradient(loss, missing):
    def detached(logits, labels):
        value, gradient = of(loss)(logits, labels)
        return value, None if missing else np.zeros_like(gradient)

    best = check(original(loss), recorded(detached), "detached gradient", "the candidate has no gradient")
    assert set(best.cases) == set(CASES)


@each_loss
def test_ignored_pixels_that_are_trained_as_class_0(loss):
    def unmasked(logits, labels):
        return of(loss)(logits, np.where(labels == IGNORED, 0, labels))

    best = check(original(loss), recorded(unmasked), "ignored pixels not masked", "class 0")
    assert set(best.cases) == {"ignored", "absent", "single"}


def test_ignored_pixels_that_are_trained_by_a_loss_that_nobody_knows():
    def cubes(masked):
        def function(logits, labels):
            mask = (labels != IGNORED)[:, None] if masked else 1.0
            return (mask * logits**4).mean(), mask * 4 * logits**3 / logits.size

        return function

    check(recorded(cubes(True)), recorded(cubes(False)), "ignored pixels not masked", "at ignored pixels")


def test_a_value_for_each_pixel():
    def pixels(logits, labels):
        target = one_hot(labels, logits.shape[1])
        return -(target * np.log(softmax(logits))).sum(axis=1), (softmax(logits) - target) * (labels != IGNORED)[:, None]

    best, *_ = explained(recorded(of(CrossEntropyLoss())), recorded(pixels, upstream=True))
    assert best.cause == "reduction"
    assert "the candidate returns a value for each pixel" in best.title


def test_random_numbers():
    reference = recorded(of(DiceLoss()))

    def noisy(logits, labels):
        value, gradient = of(DiceLoss())(logits, labels)
        draws = np.random.default_rng(0)
        return value * draws.uniform(0.5, 1.5), gradient * draws.uniform(0.5, 1.5, gradient.shape)

    best, *_ = explained(reference, recorded(noisy, repeatable=False))
    assert best.cause == "random numbers"


# --- digits -----------------------------------------------------------------------------------------------------------


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


# --- honesty ----------------------------------------------------------------------------------------------------------


def test_another_loss_is_unknown():
    reference = recorded(of(CrossEntropyLoss()))

    def odd(logits, labels):
        p, mask = softmax(logits), (labels != IGNORED)[:, None]
        slope = 40 * np.cos(40 * p) * mask / p.size
        return (np.sin(40 * p) * mask).mean(), p * (slope - (slope * p).sum(axis=1, keepdims=True))

    (only,) = explained(reference, recorded(odd))
    assert only.cause == UNKNOWN
    assert only.certainty == "no known cause"
    assert "the same: none" in only.evidence


def test_a_single_wrong_pixel_is_unknown():
    def one_off(logits, labels):
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        gradient = gradient.copy()
        gradient[0, :, 3, 3] = [0.1, -0.2, 0.3, -0.4, 0.2]
        return value, gradient

    (only,) = explained(recorded(of(CrossEntropyLoss())), recorded(one_off))
    assert only.cause == UNKNOWN


def test_a_cause_that_should_show_elsewhere_too_is_not_named():
    """Twice as much in one case is the number of images there; but other cases have as many, and agree."""

    def sometimes(logits, labels):
        value, gradient = of(DiceLoss())(logits, labels)
        factor = 2 if (labels == IGNORED).any() and logits.shape[0] == 2 else 1
        return value * factor, gradient * factor

    assert explained(recorded(of(DiceLoss())), recorded(sometimes))[0].cause != "sum in place of mean"


@pytest.mark.parametrize(
    ("loss", "cases"),
    [
        (BCELoss(), generated(Recipe((3, 1, 6)))),
        (CrossEntropyLoss(), generated(Recipe((6, 2)))),
        (DiceLoss(), generated(Recipe((1, 3, 2, 2, 2)))),
        (LovaszSoftmaxLoss(), generated(Recipe((1, 40, 3)))),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_other_shapes_can_be_diagnosed(loss, cases):
    found = explained(recorded(of(loss), cases), recorded(times(loss, lambda z, y: 1 / np.log(2)), cases))
    assert "base of the logarithm" in [explanation.cause for explanation in found]


def test_labels_of_another_kind_can_be_diagnosed():
    draws = np.random.default_rng(0)
    logits = Stored.of(draws.normal(size=(2, 3, 4)).astype(np.float32))
    cases = {"dense": {"logits": logits, "labels": Stored.of(draws.normal(size=(2, 3, 4)).astype(np.float32))}}
    found = explained(recorded(of(L1Loss()), cases), recorded(times(L1Loss(), lambda z, y: y.size), cases))
    assert "entries of the logits" in [explanation.title.partition("number of ")[2] for explanation in found]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e38, 1e-45, 0.0])
def test_numbers_of_every_kind_can_be_diagnosed(number):
    def odd(logits, labels):
        gradient = np.zeros_like(logits)
        gradient[0] = number
        return number, gradient

    assert explained(recorded(of(CrossEntropyLoss())), recorded(odd))


def test_every_loss_of_this_package_can_be_diagnosed():
    cases = generated(Recipe((2, 2, 8, 8), extras=("edge_logits", "noise")), ["ignored"])
    (inputs,) = cases.values()
    for name in unilossseg.LOSSES:
        target = f"unilossseg:{name}"
        found = explained(
            recorded(of(CrossEntropyLoss()), cases, target=target), recorded(of(DiceLoss()), cases, target=target)
        )
        assert found, name
    assert inputs
