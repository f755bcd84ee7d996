"""The commands `record`, `replay` and `compare`: plain functions that the command line registers.

What they need beyond typer is imported when they run, so that the command line starts without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from unilossseg.conformance.exit_codes import epilog, refuse
from unilossseg.conformance.records.errors import RecordError

SAME, DIFFERENT = 0, 1
_CODE = (
    "The target is your own code: it is imported from the current directory, as pytest does, or from an installed package. "
    "`module:name` is a function of (logits, labels), an object to call, a class (constructed with --kwargs), or "
    "a factory: `module:make_loss()`. If the inputs have edge_logits it is called with ((logits, edge_logits), labels), "
    "and the gradient is that by the logits alone; noise is passed by keyword if it has such a parameter."
)
#: For `app.command(epilog=...)`.
EPILOGS = {
    "record": f"{_CODE}\n\n{epilog('record')}",
    "replay": f"{_CODE}\n\n{epilog('replay')}",
    "compare": epilog("compare"),
}

_Target = Annotated[str, typer.Argument(metavar="MODULE:NAME", help="The loss.", show_default=False)]
_Out = Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the record goes.", show_default=False)]
_Kwargs = Annotated[str, typer.Option(metavar="JSON", help="What the target is constructed with, as a JSON object.")]
_Framework = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="torch, paddle or numpy. Found out from the target; an error where that is ambiguous."
    ),
]
_Device = Annotated[str, typer.Option(metavar="NAME", help="Where to compute: cpu, cuda, cuda:1, ...")]


def record(
    target: _Target,
    out: _Out,
    inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An .npz file of logits, labels and perhaps edge_logits and noise; several cases as name/logits, ... "
            "Cases are generated without it.",
        ),
    ] = None,
    kwargs: _Kwargs = "{}",
    shape: Annotated[str | None, typer.Option(metavar="N,C,...", help="Of generated logits. 2,5,16,20")] = None,
    classes: Annotated[int | None, typer.Option(min=1, metavar="C", help="Of generated logits.")] = None,
    case: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A generated case: plain, ignored, absent, confident, single (these five), or extreme. Repeatable.",
        ),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME", help="A further generated input: edge_logits, noise; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of generated inputs and upstream gradients.")] = 0,
    ignore_index: Annotated[
        int | None, typer.Option(metavar="N", help="The label that counts nowhere. That of --kwargs, or 255.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the logits: float16, bfloat16, float32, float64. That of --inputs, or float32."
        ),
    ] = None,
    framework: _Framework = None,
    device: _Device = "cpu",
) -> None:
    """Records a loss: inputs, values and gradients in one file, to be replayed elsewhere.

    The same generated cases come from the same seed on every machine.
    """

    def make() -> str:
        from unilossseg.conformance.records import file, recording

        arguments = _arguments(kwargs)
        file.check_place("--out", out)
        ignored = _ignored(ignore_index, arguments)
        cases = _cases(inputs, shape, classes, case, extra, seed, ignored, dtype)
        made = recording.record(
            target, arguments, cases, framework=framework, device=device, ignore_index=ignored, seed=seed
        )
        file.write(out, made)
        return _told(made, out)

    _done(make)


def replay(
    reference: Annotated[Path, typer.Argument(metavar="RECORD", help="What `record` made.", show_default=False)],
    target: _Target,
    out: _Out,
    kwargs: _Kwargs = "{}",
    framework: _Framework = None,
    device: _Device = "cpu",
) -> None:
    """Calls another loss with the inputs of a record, and records what it gives."""

    def make() -> str:
        from unilossseg.conformance.records import file, recording

        arguments = _arguments(kwargs)
        file.check_place("--out", out)
        given = file.read(reference)
        if _is_one_file(out, reference):
            raise RecordError("--out", "it is the record that is to be replayed", "another file", "Name another.")
        made = recording.replay(given, target, arguments, framework, device)
        file.write(out, made)
        return _told(made, out)

    _done(make)


def compare(
    reference: Annotated[Path, typer.Argument(metavar="RECORD", help="What `record` made.", show_default=False)],
    candidate: Annotated[Path, typer.Argument(metavar="RECORD", help="What `replay` made of it.", show_default=False)],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the comparison as a page.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the comparison as JSON.")] = None,
    value_tolerance: Annotated[
        float | None,
        typer.Option(metavar="X", help="Allow values to differ by this share of their scale. By dtype: see the page."),
    ] = None,
    gradient_tolerance: Annotated[
        float | None,
        typer.Option(metavar="X", help="Allow gradients to differ by this share of their scale. By dtype: see the page."),
    ] = None,
) -> None:
    """Says case by case whether two records agree, and if not, what may have happened. Needs neither framework."""
    try:
        same = _compare(reference, candidate, html, json, value_tolerance, gradient_tolerance)
    except RecordError as error:
        refuse(error)
    raise typer.Exit(SAME if same else DIFFERENT)


def _compare(
    reference: Path, candidate: Path, html: Path | None, json: Path | None, value: float | None, gradient: float | None
) -> bool:
    from unilossseg.conformance.records import file, page
    from unilossseg.conformance.records.thresholds import Allowance

    for option, share in (("--value-tolerance", value), ("--gradient-tolerance", gradient)):
        # Not an upper bound alone: NaN is below nothing.
        if share is not None and not 0 <= share < 1:
            raise RecordError(option, str(share), "a share of the scale, from 0 up to 1", "For example 1e-4.")

    wanted = [(option, path) for option, path in (("--html", html), ("--json", json)) if path is not None]
    for option, path in wanted:
        file.check_place(option, path)
        if any(_is_one_file(path, other) for other in (reference, candidate)):
            raise RecordError(f"{option} {path}", "it is one of the two records", "another file", "Name another.")
    if html is not None and json is not None and os.path.realpath(html) == os.path.realpath(json):
        raise RecordError(f"--json {json}", "it is the file of --html too", "another file", "Name another.")
    comparison = page.Comparison.of(file.read(reference), file.read(candidate), Allowance(value, gradient))
    for line in _lines(comparison):
        typer.echo(line)
    for option, path in wanted:
        text = page.render(comparison) if option == "--html" else page.to_json(comparison)
        file.replace_whole(path, text.encode())
    return comparison.same


def _is_one_file(path: Path, other: Path) -> bool:
    """Whether two names are of one file; what cannot be looked at is told when it is read or written."""
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


# ------------------------------------------------------------------------------------------------ options
def _arguments(text: str) -> dict[str, Any]:
    from unilossseg.conformance.records.manifest import strict_json

    form = """For example --kwargs '{"ignore_index": 255}'."""
    arguments = strict_json("--kwargs", text, form)
    if not isinstance(arguments, dict):
        raise RecordError("--kwargs", text, "a JSON object", form)
    return arguments


def _ignored(option: int | None, arguments: Mapping[str, Any]) -> int:
    """The option, or what the loss itself is told to ignore; PaddleSeg's default otherwise."""
    from unilossseg.conformance.records.record import LABELS, LABELS_IN_WORDS

    subject, given = ("--kwargs", arguments.get("ignore_index")) if option is None else ("--ignore-index", option)
    if type(given) is not int:
        return 255
    if given not in LABELS:
        raise RecordError(subject, f"ignore_index {given}", LABELS_IN_WORDS, "For example 255.")
    return given


def _cases(
    inputs: Path | None,
    shape: str | None,
    classes: int | None,
    case: list[str] | None,
    extra: list[str] | None,
    seed: int,
    ignored: int,
    dtype: str | None,
) -> Any:
    from unilossseg.conformance.records.inputs import GENERATED, ON_REQUEST, Recipe, from_npz, generated, shape_of
    from unilossseg.conformance.records.record import FLOATS

    if dtype is not None and dtype not in FLOATS:
        raise RecordError("--dtype", repr(dtype), f"one of {', '.join(FLOATS)}", "Choose one of them.")
    if inputs is not None:
        options = {"--shape": shape, "--classes": classes, "--case": case, "--with": extra}
        given = [option for option, value in options.items() if value]
        if given:
            raise RecordError(given[0], "it comes with --inputs", "it without --inputs", "It shapes generated cases only.")
        return from_npz(inputs, dtype)
    for option, names, known in (("--case", case, GENERATED + ON_REQUEST), ("--with", extra, ("edge_logits", "noise"))):
        for name in names or ():
            if name not in known:
                raise RecordError(option, repr(name), f"one of {', '.join(known)}", "Choose one of them.")
    recipe = Recipe(shape_of(shape, classes), seed, ignored, dtype or "float32", tuple(extra or ()))
    return generated(recipe, tuple(dict.fromkeys(case)) if case else GENERATED)


# ------------------------------------------------------------------------------------------------ what is said
def _done(make: Callable[[], str]) -> None:
    try:
        typer.echo(make())
    except RecordError as error:
        refuse(error)


def _told(made: Any, out: Path) -> str:
    lines = [f"{made.target}, {made.computed_by}:"]
    for case in made.cases:
        value = f"value {case.value.wide().ravel()[0]:.9g}" if case.value.data.size == 1 else f"values {case.value.shape}"
        largest = (
            "no gradient" if case.gradient is None else f"gradient up to {abs(case.gradient.wide()).max(initial=0):.4g}"
        )
        remarks = [] if case.repeatable else ["not the same when called again"]
        remarks += [f"writes into its {name}" for name in case.changed] + [f"takes no {name}" for name in case.unused]
        lines.append(f"  {case.name:<12} {value}, {largest}" + "".join(f"; {remark}" for remark in remarks))
    return "\n".join([*lines, f"Recorded in {out} ({out.stat().st_size / 1000:.0f} kB)"])


def _lines(comparison: Any) -> list[str]:
    reference, candidate = comparison.reference, comparison.candidate
    lines = [
        f"reference  {reference.target}, {reference.computed_by}",
        f"candidate  {candidate.target}, {candidate.computed_by}",
        "",
    ]
    for verdict in comparison.verdicts:
        lines.append(f"{verdict.status:<10} {verdict.name}")
        lines += [f"    {_part(part)}" for part in verdict.parts]
        lines += [f"    note: {note}" for note in verdict.notes]
    for explanation in comparison.explanations:
        score = f" ({explanation.score:.0%})" if explanation.score else ""
        lines += [
            "",
            f"{explanation.certainty}{score}: {explanation.title}",
            f"    evidence: {explanation.evidence}",
            f"    remedy: {explanation.remedy}",
        ]
    for quantity, share in (("values", comparison.allowance.value), ("gradients", comparison.allowance.gradient)):
        if share is not None:
            lines += ["", f"allowed by the user for {quantity}: {share:g} of the scale"]
    return [*lines, "", comparison.summary]


def _part(part: Any) -> str:
    if part.no_numbers:
        return f"{part.quantity:<9} {part.no_numbers}"
    where = f" at {part.index}" if part.index else ""
    return (
        f"{part.quantity:<9} error {part.error:.2e} of {part.bound:.2e} allowed; rtol {part.rtol:.2e} or atol "
        f"{part.atol:.2e} needed; {part.ulp} ulp{where}"
    )
