"""A record as one file: safetensors, which holds numbers and text and nothing that could run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from unilossseg.conformance.records import manifest
from unilossseg.conformance.records.errors import RecordError, reason
from unilossseg.conformance.records.record import BFLOAT16, Record, Stored
from unilossseg.conformance.results import check_writable, final_place, write_whole

_KEY = "unilossseg_record"
#: A manifest takes some 2 kB a case. Nothing longer is even parsed.
_LONGEST_HEADER = 16 * 2**20
_AGAIN = "Record again, or copy the file anew from where it was made."


def write(path: Path, record: Record) -> None:
    """Writes the file whole or not at all; an older one stays as it is until then."""
    save = _safetensors().save
    arrays = {f"{case.name}/{role}": array.data for case in record.cases for role, array in case.arrays()}
    content = save(arrays, metadata={_KEY: manifest.dump(record)})
    length = int.from_bytes(content[:8], "little")
    if length > _LONGEST_HEADER:
        received = f"a header of {length} bytes, of {len(record.cases)} cases"
        expected = f"at most {_LONGEST_HEADER} bytes, which is all that is read of one"
        raise RecordError(str(path), received, expected, "Make several records, of fewer cases each. Nothing was written.")
    replace_whole(path, content)


def replace_whole(path: Path, content: bytes) -> None:
    """Puts a file in its place when it is complete: beside it first, onto the disk, then renamed.

    A symbolic link stays one and its file is replaced; what is no file, such as a pipe or a device, is written into.
    """
    place = final_place(path)
    try:
        write_whole(path, content)
    except OSError as error:
        remedy = "Nothing was changed there." if place is not None else "What it had taken by then has gone out."
        raise RecordError(str(path), f"it cannot be written ({reason(error)})", "a place to write to", remedy) from None


def check_place(option: str, path: Path) -> None:
    """Finds out now, and not after the work, whether a file can be put there; a pipe or a device shows that only then."""
    place = final_place(path)
    if place is None:
        return
    try:
        if place.is_dir() or not place.parent.is_dir():
            received = "it is a folder" if place.is_dir() else f"there is no folder {place.parent}"
            raise RecordError(
                f"{option} {path}", received, "a file's name in a folder that exists", "Make the folder, or name another."
            )
        check_writable(place.parent)
    except OSError as error:
        received = f"no file can be made in {place.parent} ({reason(error)})"
        raise RecordError(f"{option} {path}", received, "a place to write to", "Name another.") from None


def read(path: Path) -> Record:
    """Reads a record and checks everything in it; raises RecordError where anything is not as it was written."""
    subject = str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(
            subject, f"it cannot be read ({reason(error)})", "a record made by `unilossseg record`", "Check the name."
        ) from None
    return read_bytes(subject, content)


def read_bytes(subject: str, content: bytes) -> Record:
    """The record in a file's content."""
    checked = manifest.Manifest(subject, _manifest_text(subject, content))
    return checked.record(_arrays(subject, content, checked))


def _manifest_text(subject: str, content: bytes) -> str:
    what = "a record made by `unilossseg record`"
    if len(content) < 10:
        raise RecordError(subject, f"it has {len(content)} bytes", what, _AGAIN)
    length = int.from_bytes(content[:8], "little")
    if content[8:9] != b"{" or length > _LONGEST_HEADER:
        kind = (
            "a pickle"
            if content[:1] == b"\x80"
            else "a zip archive (perhaps of NumPy or torch)"
            if content[:2] == b"PK"
            else ""
        )
        received = f"it is {kind}" if kind else f"its first bytes ask for a header of {length} bytes"
        raise RecordError(
            subject, received, f"{what}, whose header has at most {_LONGEST_HEADER} bytes", "It was not opened further."
        )
    if 8 + length > len(content):
        raise RecordError(subject, f"it ends after {len(content)} bytes, within its header", "the whole file", _AGAIN)
    try:
        header = content[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(subject, f"its header is no text ({reason(error)})", what, _AGAIN) from None
    parsed = manifest.strict_json(f"{subject}, its header", header, _AGAIN)
    metadata = parsed.get("__metadata__") if isinstance(parsed, dict) else None
    text = metadata.get(_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise RecordError(subject, "it is a safetensors file without a record's manifest", what, "Name another file.")
    return text


def _arrays(subject: str, content: bytes, checked: manifest.Manifest) -> dict[str, Stored]:
    for name, (dtype, shape, _) in checked.arrays.items():
        # Before anything is allocated by it.
        if math.prod(shape) * _numpy_dtype(dtype).itemsize > len(content):
            raise RecordError(subject, f"array {name!r} of shape {shape} does not fit into the file", "whole arrays", _AGAIN)
    load = _safetensors().load
    try:
        found = load(content)
    # KeyError: a dtype that its NumPy side does not know.
    except (KeyError, ValueError, TypeError, OverflowError, MemoryError, _safetensors_error()) as error:
        raise RecordError(
            subject, f"its arrays cannot be read ({reason(error)})", "the arrays of its manifest", _AGAIN
        ) from None
    odd = sorted(set(found) ^ set(checked.arrays))
    if odd:
        missing = odd[0] in checked.arrays
        received = f"array {odd[0]!r} is {'missing' if missing else 'not in the manifest'}"
        raise RecordError(subject, received, "exactly the arrays of its manifest", _AGAIN)
    arrays = {}
    for name, (dtype, shape, digest) in checked.arrays.items():
        array = Stored(found[name], dtype)
        if array.data.dtype != _numpy_dtype(dtype) or array.shape != shape:
            received = f"array {name!r} is {array.data.dtype} of shape {array.shape}"
            raise RecordError(subject, received, f"{dtype} of shape {shape}, as the manifest says", _AGAIN)
        if array.sha256 != digest:
            received = f"the SHA-256 of array {name!r} is {array.sha256[:16]}..."
            raise RecordError(subject, received, f"{digest[:16]}..., as it was written", _AGAIN)
        arrays[name] = array
    return arrays


def _numpy_dtype(name: str) -> np.dtype[Any]:
    return np.dtype(np.uint16 if name == BFLOAT16 else name)


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ModuleNotFoundError:
        raise RecordError(
            "records", "safetensors is not installed", "the packages of the report extra", "pip install 'unilossseg[report]'"
        ) from None
    return safetensors.numpy


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError  # type: ignore[no-any-return]
