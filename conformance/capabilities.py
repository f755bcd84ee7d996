"""What works where: every dtype, mode and feature on every backend, and each exception with its reason and its expiry.

Everything that is not an exception works. The conformance run, its workers, the pytest plugin, the probes and the table in
the README ask this module; nobody else says what a backend cannot do. A new exception is an entry of `EXCEPTIONS`:

- *unsupported*: the backend has no such thing. It is not tried, and it is never counted as a pass.
- *expected failure*: it is tried and must fail, with the words by which it `shows`. Where it passes, the run fails until the
  entry is removed.

An exception holds until its expiry date. From then on `unilossseg capabilities --check`, and with it the project's own
tests, fail until somebody has looked again and has renewed or removed it; a run warns, since whoever has an installed
release cannot. An exception that somebody's own backend brings fails: who runs it is who can renew it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

from unilossseg.conformance.cases import DTYPES
from unilossseg.conformance.protocol import CLOSED_FORM, FACE, MODES, PLAIN_FORMULA

Kind = Literal["unsupported", "expected failure"]
UNSUPPORTED: Kind = "unsupported"
EXPECTED_FAILURE: Kind = "expected failure"

AUTOGRAD = "autograd"
SECOND_OF_FORMULA = "second derivative of the formula"
SECOND_OF_CLOSED_FORM = "second derivative of a closed form"
BACKWARD_TWICE = "backward twice"
TRANSFORMS = "function transforms"
COMPILATION = "compilation"
SHARED_INPUT = "zero-copy logits"
SHARED_GRADIENT = "zero-copy gradient"
EXACT_SCALARS = "exact scalars"

#: Features that the conformance run does not try; the probes do.
PROBED = {
    AUTOGRAD: "the framework differentiates the plain formula",
    SECOND_OF_FORMULA: "a gradient inside `unilossseg.plain_formula()` can be differentiated again",
    SECOND_OF_CLOSED_FORM: "so can the gradient that a closed form hung into autograd",
    BACKWARD_TWICE: "`backward(retain_graph=True)` and a second `backward` through a closed form",
    TRANSFORMS: "`torch.func.grad` and the like",
    COMPILATION: "`torch.compile(fullgraph=True)`, `paddle.jit.to_static`",
    SHARED_INPUT: "a closed form reads logits on the CPU where they lie",
    SHARED_GRADIENT: "its gradient reaches the framework without a copy",
    EXACT_SCALARS: "a Python number beside a float64 array keeps its digits",
}
FEATURES: dict[str, str] = {
    **{dtype: f"{dtype} logits" for dtype in DTYPES},
    CLOSED_FORM: "value and gradient in one pass, without autograd",
    PLAIN_FORMULA: "the formula in the framework's own operations",
    FACE: "a `torch.nn.Module`, a `paddle.nn.Layer`",
    **PROBED,
}


@dataclass(frozen=True)
class Column:
    """A backend of the table, or one series of its releases."""

    backend: str
    title: str
    version: str = ""


COLUMNS = (
    Column("numpy", "NumPy"),
    Column("strict", "array-api-strict"),
    Column("torch", "PyTorch"),
    Column("paddle", "Paddle 3", "3."),
    Column("paddle", "Paddle 2.6", "2.6."),
)


@dataclass(frozen=True)
class Exemption:
    """Something that does not work, or not everywhere.

    Parameters
    ----------
    backends, features
        Where, and what: names of `FEATURES`.
    kind
        'unsupported' or 'expected failure'.
    reason, link
        Why, and where one reads more: a URL or a page of this project.
    expires
        The first day on which `capabilities --check` fails until the entry is renewed or removed.
    versions
        How the framework's version begins; empty: all.
    losses
        The losses that it is about; empty: all.
    cases
        A part of the ids of the cases that it is about; empty: all.
    shows
        Words of the error, or of what is said of a crash, by which an expected failure shows: any other is none. Empty: any
        error, but of a probe none that it raises itself, which is how it finds wrong numbers.
    """

    backends: tuple[str, ...]
    features: tuple[str, ...]
    kind: Kind
    reason: str
    link: str
    expires: date
    versions: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()
    cases: str = ""
    shows: str = ""

    def __post_init__(self) -> None:
        unknown = [name for name in self.features if name not in FEATURES]
        if unknown:
            raise ValueError(f"Exemption: features must be among {', '.join(FEATURES)} (got {unknown[0]!r})")
        if self.kind not in (UNSUPPORTED, EXPECTED_FAILURE):
            raise ValueError(f"Exemption: kind must be {UNSUPPORTED!r} or {EXPECTED_FAILURE!r} (got {self.kind!r})")
        if not (self.backends and self.features and self.reason and self.link):
            raise ValueError("Exemption: backends, features, reason and link must not be empty")

    def holds(self, backend: str, features: Iterable[str], version: str = "", loss: str = "", case: str = "") -> bool:
        """Whether it is about one of the features there; about a loss or a case only where they are named."""
        return (
            backend in self.backends
            and not set(self.features).isdisjoint(features)
            and (not self.versions or version.startswith(self.versions))
            and (not self.losses or loss in self.losses)
            and self.cases in case
        )

    @property
    def overdue(self) -> str:
        """What to do about it, once it has expired; empty before."""
        if today() < self.expires:
            return ""
        what = f"{', '.join(self.features)} on {', '.join(self.backends)}"
        return (
            f"the exception for {what} expired on {self.expires.isoformat()} ({self.reason}): see whether it still holds, "
            "and renew or remove it in conformance/capabilities.py"
        )

    def as_json(self) -> dict[str, Any]:
        """For a worker's greeting."""
        return {**asdict(self), "expires": self.expires.isoformat()}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Exemption:
        """From a worker's greeting; raises KeyError, TypeError or ValueError on anything else."""
        lists = {name: tuple(map(str, said[name])) for name in ("backends", "features", "versions", "losses")}
        words = {name: str(said[name]) for name in ("reason", "link", "cases", "shows")}
        return cls(**lists, **words, kind=said["kind"], expires=date.fromisoformat(said["expires"]))  # type: ignore[arg-type]


_LIMITS = "docs/precision.md"
#: What Paddle says of an operation whose derivative it cannot differentiate; releases differ in the rest of the sentence.
_NO_SECOND = "doesn't have any grad"
_PADDLE = ("paddle",)
#: Releases of Paddle appear every few months; what a namespace has not got hardly ever changes.
_SOON, _LATER = date(2027, 6, 1), date(2027, 12, 1)

EXCEPTIONS: tuple[Exemption, ...] = (
    Exemption(
        ("numpy", "strict"),
        ("bfloat16",),
        UNSUPPORTED,
        "NumPy has no bfloat16, and array-api-strict is built on it",
        "https://github.com/numpy/numpy/issues/19808",
        _LATER,
    ),
    Exemption(
        ("strict",),
        ("float16",),
        UNSUPPORTED,
        "the Array API standard has no float16",
        "https://data-apis.org/array-api/latest/API_specification/data_types.html",
        _LATER,
    ),
    Exemption(
        ("numpy", "strict"),
        (AUTOGRAD, SECOND_OF_FORMULA, SECOND_OF_CLOSED_FORM, BACKWARD_TWICE, TRANSFORMS, COMPILATION),
        UNSUPPORTED,
        "no autograd and no compiler: the gradient is that of the closed form",
        "https://data-apis.org/array-api/latest/purpose_and_scope.html",
        _LATER,
    ),
    Exemption(
        ("numpy", "strict"),
        (FACE,),
        UNSUPPORTED,
        "no layers: a loss is called as a function",
        "README.md#the-losses",
        _LATER,
    ),
    Exemption(
        _PADDLE,
        (BACKWARD_TWICE,),
        EXPECTED_FAILURE,
        "Paddle crashes in a second `backward` through a custom gradient: compute the loss inside `plain_formula()`",
        _LIMITS,
        _SOON,
        shows="the process ended with exit status",
    ),
    Exemption(
        _PADDLE,
        (SECOND_OF_CLOSED_FORM,),
        EXPECTED_FAILURE,
        "Paddle crashes where one backward pass starts another, so asking for it is an error: compute the loss inside "
        "`plain_formula()`",
        _LIMITS,
        _SOON,
        shows="asked for with create_graph=True",
    ),
    Exemption(
        _PADDLE,
        (SECOND_OF_FORMULA,),
        EXPECTED_FAILURE,
        "Paddle 2.6 lacks the second derivatives of `where` and `exp`",
        _LIMITS,
        _SOON,
        versions=("2.6.",),
        shows=_NO_SECOND,
    ),
    Exemption(
        _PADDLE,
        (SECOND_OF_FORMULA,),
        EXPECTED_FAILURE,
        "Paddle 3 lacks the second derivative of `log1p`",
        _LIMITS,
        _SOON,
        versions=("3.",),
        losses=("BCELoss",),
        shows=_NO_SECOND,
    ),
    Exemption(
        _PADDLE,
        (TRANSFORMS,),
        UNSUPPORTED,
        "Paddle has no transforms of functions",
        _LIMITS,
        _SOON,
    ),
    Exemption(
        _PADDLE,
        (EXACT_SCALARS,),
        EXPECTED_FAILURE,
        "Paddle 2.6 rounds a Python number added to a float64 tensor to float32; closed forms are not affected",
        _LIMITS,
        _SOON,
        versions=("2.6.",),
        shows="ProbeError: 1 + 0.1 is 1.100000",
    ),
)


def today() -> date:
    """The date in UTC, by which exceptions expire."""
    return datetime.now(UTC).date()


def find_all(
    backend: str,
    features: Sequence[str],
    *,
    version: str = "",
    loss: str = "",
    case: str = "",
    kind: Kind | None = None,
    further: Iterable[Exemption] = (),
) -> list[Exemption]:
    """The exceptions that are about one of the features on a backend; `further` are those that the backend brings itself."""
    entries = [entry for entry in (*EXCEPTIONS, *further) if kind in (None, entry.kind)]
    return [entry for entry in entries if entry.holds(backend, features, version, loss, case)]


def find(backend: str, features: Sequence[str], **about: Any) -> Exemption | None:
    """The first of those that `find_all` finds."""
    return next(iter(find_all(backend, features, **about)), None)


def dtypes(backend: str, version: str = "") -> tuple[str, ...]:
    """The logits' dtypes that a backend has."""
    return tuple(name for name in DTYPES if find(backend, (name,), version=version, kind=UNSUPPORTED) is None)


def modes(backend: str, version: str = "") -> tuple[str, ...]:
    """The ways of computing a loss that a backend has."""
    return tuple(name for name in MODES if find(backend, (name,), version=version, kind=UNSUPPORTED) is None)


def supports(backend: str, feature: str, version: str = "") -> bool:
    """Whether nothing is known to be in a feature's way."""
    return find(backend, (feature,), version=version) is None


def overdue(backends: Iterable[str]) -> list[str]:
    """Exceptions about these backends that have expired, each with what to do about it."""
    names = set(backends)
    return [entry.overdue for entry in EXCEPTIONS if entry.overdue and not names.isdisjoint(entry.backends)]
