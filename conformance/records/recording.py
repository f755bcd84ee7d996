"""Makes a record: the target is called on every case, twice, and what it gave is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unilossseg.conformance import devices
from unilossseg.conformance.records import identity, targets
from unilossseg.conformance.records.errors import RecordError, reason
from unilossseg.conformance.records.inputs import Inputs, upstream_for
from unilossseg.conformance.records.record import FLOATS, Record, RecordedCase, Stored
from unilossseg.conformance.records.runners import RUNNERS, Outcome, Runner, Upstream
from unilossseg.conformance.records.targets import Target

_REFERENCE_IGNORES = 255
_OF_A_RECORD = (
    "Set the ignored label with --ignore-index; choose cases that the loss can take with --case, add what it needs with "
    "--with, or bring --inputs."
)
_OF_A_REPLAY = (
    "If the record's ignored label, {ignore_index}, is not the target's, give it with --kwargs; or record again, with cases "
    "or inputs that both losses can take."
)


def record(
    name: str,
    kwargs: Mapping[str, Any],
    cases: Mapping[str, Inputs],
    *,
    framework: str | None = None,
    device: str = "cpu",
    ignore_index: int = _REFERENCE_IGNORES,
    seed: int = 0,
    upstreams: Mapping[str, Stored] | None = None,
) -> Record:
    """Calls a target on cases.

    Parameters
    ----------
    name, kwargs
        The target as `module:name`, and what it is constructed with.
    cases
        The inputs of each case.
    framework
        torch, paddle or numpy; None: found out.
    device
        Where to compute.
    ignore_index
        The label that counts nowhere; the diagnosis of a difference asks for it.
    seed
        Of the upstream gradients of values with several numbers.
    upstreams
        Upstream gradients of another record, which are taken where their shape fits.
    """
    target = targets.load(name, kwargs)
    chosen = identity.framework_of(target, framework)
    try:
        runner = RUNNERS[chosen](chosen, device)
        runner.place(target)
    except RecordError:
        raise
    except Exception as error:
        raise devices.refusal(chosen, device, error) from error
    # Only a replay has upstream gradients of another record, if perhaps none, and it has no options for its inputs.
    remedy = _OF_A_RECORD if upstreams is None else _OF_A_REPLAY.format(ignore_index=ignore_index)
    given = upstreams or {}
    found = tuple(_case(runner, target, case, inputs, seed, given.get(case), remedy) for case, inputs in cases.items())
    # The environment last: what the target imports on its first call is there too.
    environment = identity.describe(chosen, runner.module, device)
    return Record(name, dict(kwargs), ignore_index, seed, environment, found)


def replay(
    reference: Record, name: str, kwargs: Mapping[str, Any], framework: str | None = None, device: str = "cpu"
) -> Record:
    """Calls another target with the inputs of a record."""
    return record(
        name,
        kwargs,
        {case.name: dict(case.inputs) for case in reference.cases},
        framework=framework,
        device=device,
        ignore_index=reference.ignore_index,
        seed=reference.seed,
        upstreams={case.name: case.upstream for case in reference.cases if case.upstream is not None},
    )


def _case(
    runner: Runner, target: Target, name: str, inputs: Inputs, seed: int, given: Stored | None, remedy: str
) -> RecordedCase:
    def upstream(shape: tuple[int, ...], dtype: str) -> Stored:
        if given is not None and given.shape == shape and given.dtype in FLOATS:
            return given
        return upstream_for(name, seed, shape, dtype)

    first = _run(runner, target, name, inputs, upstream, remedy)
    second = _run(runner, target, name, inputs, upstream, remedy)
    return RecordedCase(
        name=name,
        inputs=inputs,
        value=first.value,
        gradient=first.gradient,
        upstream=first.upstream,
        listed=first.listed,
        repeatable=_same(first.value, second.value) and _same(first.gradient, second.gradient),
        changed=first.changed,
        unused=first.unused,
    )


def _run(runner: Runner, target: Target, case: str, inputs: Inputs, upstream: Upstream, remedy: str) -> Outcome:
    try:
        return runner.run(target, inputs, upstream)
    except RecordError:
        raise
    # SystemExit: a loss that ends the process would end it with its own exit code, 0 perhaps, and no record.
    except (Exception, SystemExit) as error:
        raise RecordError(
            f"target {target.name!r}, case {case!r}",
            f"it fails with {reason(error)}",
            "a value and a gradient",
            remedy,
        ) from error


def _same(first: Stored | None, second: Stored | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.same_bits(second)
