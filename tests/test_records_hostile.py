"""Files that are damaged, cut off, newer or made to do harm: an error that says what is wrong, and nothing else happens."""

import io
import json
import pickle
import struct
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from checks.record_cli import run

from unilossseg.conformance.records import file, inputs, manifest, recording
from unilossseg.conformance.records.errors import RecordError
from unilossseg.conformance.records.record import Stored

KEY = "unilossseg_record"


@pytest.fixture(scope="module")
def sound():
    """A sound record, as bytes."""
    import tempfile
    from pathlib import Path

    made = recording.record("unilossseg:DiceLoss", {}, inputs.generated(inputs.Recipe((1, 2, 3)), ["plain", "ignored"]))
    with tempfile.TemporaryDirectory() as folder:
        file.write(Path(folder, "ref.uls"), made)
        return Path(folder, "ref.uls").read_bytes()


def taken_apart(content):
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"][KEY]), content[8 + length :]


def put_together(header, manifest, data):
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    header = {**header, "__metadata__": {KEY: text}}
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def refused(content):
    with pytest.raises(RecordError) as caught:
        file.read_bytes("bad.uls", content)
    error = caught.value
    assert error.subject.startswith("bad.uls")
    assert all((error.received, error.expected, error.remedy))
    assert str(error).isprintable()
    assert len(str(error)) < 1500
    return str(error)


def with_manifest(sound, change):
    header, manifest, data = taken_apart(sound)
    return put_together(header, change(manifest) or manifest, data)


def test_the_tools_of_this_test_leave_a_sound_record_sound(sound):
    assert file.read_bytes("good", with_manifest(sound, lambda manifest: None)).target == "unilossseg:DiceLoss"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_ends_early(sound, share):
    refused(sound[: int(share * len(sound))])


def test_a_file_that_goes_on(sound):
    refused(sound + b"\0")


def test_every_flipped_byte_is_noticed(sound):
    unnoticed = []
    for at in range(0, len(sound), 7):
        changed = bytearray(sound)
        changed[at] ^= 0x04
        try:
            file.read_bytes("bad.uls", bytes(changed))
        except RecordError:
            continue
        unnoticed.append(at)
    # Words of the manifest itself (a version, a path) are not protected; numbers are.
    header = 8 + struct.unpack("<Q", sound[:8])[0]
    assert [at for at in unnoticed if at >= header] == []


def test_a_changed_number_is_named(sound):
    assert "the SHA-256 of array" in refused(sound[:-1] + bytes([sound[-1] ^ 1]))


def other_formats():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("../../up.txt", "up")
    arrays = io.BytesIO()
    np.savez(arrays, logits=np.zeros(3))
    return {
        "a pickle": pickle.dumps({"a": print}),
        "a zip": archive.getvalue(),
        "an npz": arrays.getvalue(),
        "text": b"not a record at all\n",
        "nothing": b"",
        "zeros": bytes(1000),
        "JSON": b'{"schema": 1}',
    }


@pytest.mark.parametrize("kind", other_formats())
def test_other_formats_are_not_opened(kind):
    refused(other_formats()[kind])


@pytest.mark.parametrize("length", [2**63, 2**40, 2**25, 0])
def test_a_header_of_absurd_length(sound, length):
    refused(struct.pack("<Q", length) + sound[8:])


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b'{"__metadata__": 3}',
        b'{"__metadata__": {"unilossseg_record": 3}}',
        b'{"__metadata__": {}}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' * 20_000,
        b'{"\xff": 1}',
        b'{"__metadata__": {}, "__metadata__": {}}',
    ],
)
def test_headers_that_are_none(header):
    refused(struct.pack("<Q", len(header)) + header)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "null",
        "{",
        '{"schema": NaN}',
        '{"schema": 1, "schema": 1}',
        '{"schema": 1.0}',
        '{"schema": "1"}',
        "[" * 50_000,
    ],
)
def test_manifests_that_are_none(sound, text):
    header, _, data = taken_apart(sound)
    refused(put_together(header, text, data))


def test_a_newer_schema_asks_for_an_upgrade(sound):
    said = refused(with_manifest(sound, lambda manifest: {"schema": 2, "unilossseg": "9.9", "anything": "else"}))
    assert "its schema is 2" in said
    assert "unilossseg 9.9: upgrade" in said


def changed(key, value):
    def change(manifest):
        manifest[key] = value

    return change


def changed_array(key, value):
    def change(manifest):
        manifest["arrays"]["plain/logits"][key] = value

    return change


def changed_case(key, value):
    def change(manifest):
        manifest["cases"][0][key] = value

    return change


def renamed(name):
    """A case by another name, everywhere."""

    def change(manifest):
        text = json.dumps(manifest).replace('"plain', json.dumps(name)[:-1])
        return json.loads(text)

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed("schema", 0),
        changed("schema", True),
        changed("target", 3),
        changed("target", "a\x1b]0;title\x07b"),
        changed("target", "a\nb"),
        changed("target", "a" * 5000),
        changed("kwargs", []),
        changed("seed", "0"),
        changed("ignore_index", 1.5),
        changed("ignore_index", 2**63),
        changed("ignore_index", -(2**63) - 1),
        changed("ignore_index", 10**400),
        changed("environment", {"framework": 3}),
        changed("environment", {"frame\x1bwork": "torch"}),
        changed("cases", []),
        changed("cases", {}),
        changed("cases", [3]),
        changed("arrays", {}),
        changed("arrays", []),
        changed_array("dtype", "object"),
        changed_array("dtype", "float64"),
        changed_array("dtype", "V8"),
        changed_array("dtype", "bfloat16"),
        changed_array("shape", [-1, 6]),
        changed_array("shape", [2**50]),
        changed_array("shape", [2**39] * 16),
        changed_array("shape", [1] * 40),
        changed_array("shape", [1, 3, 2]),
        changed_array("shape", [1.0, 2.0, 3.0]),
        changed_array("shape", [True, 2, 3]),
        changed_array("shape", "1,2,3"),
        changed_array("sha256", ""),
        changed_array("sha256", "0" * 64),
        changed_array("sha256", "../../etc/passwd"),
        changed_case("name", "ignored"),
        changed_case("name", "other"),
        changed_case("arrays", ["logits", "labels"]),
        changed_case("arrays", ["logits", "labels", "value", "weights"]),
        changed_case("arrays", ["logits", "labels", "value", {}]),
        changed_case("listed", 1),
        changed_case("repeatable", "yes"),
        changed_case("changed", ["../up"]),
        changed_case("unused", "noise"),
        renamed("../../up"),
        renamed("/etc"),
        renamed("a/b"),
        renamed(""),
        renamed("a\x00b"),
        renamed("<script>"),
        renamed("x" * 81),
    ],
)
def test_what_a_manifest_must_not_say(sound, change):
    refused(with_manifest(sound, change))


@pytest.mark.parametrize("label", [2**63 - 1, -(2**63)])
def test_every_label_may_be_the_ignored_one(sound, label):
    assert file.read_bytes("good", with_manifest(sound, changed("ignore_index", label))).ignore_index == label
    beyond = label + (1 if label > 0 else -1)
    said = refused(with_manifest(sound, changed("ignore_index", beyond)))
    assert f"ignore_index is {beyond}; expected a label, from -2**63 up to 2**63 - 1" in said


@pytest.mark.parametrize("key", ["schema", "target", "kwargs", "ignore_index", "seed", "environment", "cases", "arrays"])
def test_what_a_manifest_must_say(sound, key):
    assert f"{key} is nothing" in refused(with_manifest(sound, lambda manifest: manifest.pop(key) and None))


def test_a_missing_array_is_named(sound):
    header, manifest, data = taken_apart(sound)
    # The last one: what is before it still covers the file without a gap.
    last = max((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"][1])
    start = header.pop(last)["data_offsets"][0]
    assert f"array {last!r} is missing" in refused(put_together(header, manifest, data[:start]))


def test_an_array_too_many_is_named(sound):
    header, manifest, data = taken_apart(sound)
    header["plain/noise"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
    assert "array 'plain/noise' is not in the manifest" in refused(put_together(header, manifest, data + bytes(4)))


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1, 2, 3], "data_offsets": [0, 2**62]},
        {"dtype": "F32", "shape": [1, 2, 3], "data_offsets": [-1, 24]},
        {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 24]},
        {"dtype": "F8_E4M3", "shape": [24], "data_offsets": [0, 24]},
        {"dtype": "BF16", "shape": [12], "data_offsets": [0, 24]},
        {"dtype": "pickle", "shape": [24], "data_offsets": [0, 24]},
        {},
        3,
    ],
)
def test_entries_of_arrays_that_cannot_be(sound, entry):
    header, manifest, data = taken_apart(sound)
    refused(put_together({**header, "plain/logits": entry}, manifest, data))


def test_the_commands_exit_with_2_and_touch_nothing(sound, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.uls").write_bytes(sound)
    (tmp_path / "bad.uls").write_bytes(sound[:-1] + b"x")
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments in (
        ("compare", "good.uls", "bad.uls", "--html", "page.html", "--json", "page.json"),
        ("compare", "good.uls", "none.uls", "--html", "page.html"),
        ("compare", "good.uls", "."),
        ("replay", "bad.uls", "unilossseg:DiceLoss", "--out", "cand.uls"),
        ("replay", "none.uls", "unilossseg:DiceLoss", "--out", "cand.uls"),
    ):
        assert run(*arguments, expect=2).startswith("unilossseg: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def as_written(change):
    """A record in a file, all of whose digests are right, with one case changed before it was written."""
    made = recording.record("unilossseg:DiceLoss", {}, inputs.generated(inputs.Recipe((2, 3, 4)), ["plain", "ignored"]))
    first, second = made.cases
    arrays = {f"{case.name}/{role}": array.data for case in (change(first), second) for role, array in case.arrays()}
    text = manifest.as_json(replace(made, cases=(change(first), second)))
    return safetensors.numpy.save(arrays, metadata={KEY: text})


def with_input(name, array):
    return lambda case: replace(case, inputs={**case.inputs, name: Stored.of(array)})


def of_one(role, array):
    return lambda case: replace(case, **{role: Stored.of(array)})


def test_the_tools_of_the_next_test_leave_a_sound_record_sound():
    assert file.read_bytes("good", as_written(lambda case: case)).target == "unilossseg:DiceLoss"
    assert file.read_bytes("good", as_written(of_one("upstream", np.float32(1)))).cases[0].upstream.shape == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            of_one("gradient", np.ones((2, 4, 3), np.float32)),
            "'plain/gradient' is (2, 4, 3); expected (2, 3, 4), as that of the",
        ),
        (of_one("gradient", np.float32(1)), "'plain/gradient' is (); expected (2, 3, 4)"),
        (
            of_one("gradient", np.ones((2, 3, 4), np.int64)),
            "dtype of array 'plain/gradient' is int64; expected one of float16",
        ),
        (of_one("value", np.int32(1)), "the dtype of array 'plain/value' is int32"),
        (of_one("value", np.True_), "the dtype of array 'plain/value' is bool"),
        (of_one("value", np.ones(0, np.float32)), "'plain/value' is (0,); expected at least one number"),
        (
            lambda case: replace(case, listed=True),
            "'plain/value' is (); expected at least one axis: the value is a list of losses",
        ),
        (of_one("upstream", np.int8(1)), "the dtype of array 'plain/upstream' is int8"),
        (of_one("upstream", np.ones(2, np.float32)), "'plain/upstream' is (2,); expected (), as that of the value"),
        (with_input("logits", np.ones((2, 3, 4), np.uint8)), "the dtype of array 'plain/logits' is uint8"),
        (with_input("logits", np.ones((2, 0, 4), np.float32)), "'plain/logits' is (2, 0, 4); expected at least one number"),
        (with_input("edge_logits", np.ones((2, 1, 4), np.int64)), "the dtype of array 'plain/edge_logits' is int64"),
        (with_input("noise", np.ones((2, 3, 4), bool)), "the dtype of array 'plain/noise' is bool"),
    ],
)
def test_arrays_that_do_not_belong_together(change, said):
    assert said in refused(as_written(change))


def test_no_word_of_the_machine_keeps_a_record_from_being_read(tmp_path):
    made = recording.record("unilossseg:DiceLoss", {}, inputs.generated(inputs.Recipe((1, 2, 3)), ["plain"]))
    machine = {"threads": "2\t", "file": "x" * 1001, "platform": "x" * 1000}
    file.write(tmp_path / "ref.uls", replace(made, environment={**made.environment, **machine}))
    found = file.read(tmp_path / "ref.uls").environment
    assert found == {**made.environment, "threads": "2\ufffd", "file": "x" * 297 + "...", "platform": "x" * 1000}


def test_what_would_not_be_read_is_not_written(tmp_path):
    made = recording.record("unilossseg:DiceLoss", {}, inputs.generated(inputs.Recipe((1, 2, 3)), ["plain"]))
    with pytest.raises(
        RecordError, match=r"expected printable text of at most 1000 characters\. No command would read such"
    ):
        file.write(tmp_path / "ref.uls", replace(made, target="x" * 1001))
    assert list(tmp_path.iterdir()) == []
