"""Where a file of a record or of a comparison goes: links, pipes and devices stay what they are, and files come whole."""

import errno
import os
import select
import stat
import tempfile
import threading
from dataclasses import replace

import pytest
from checks.record_cli import SMALL, run

from unilossseg.conformance.records import file, inputs, page, recording
from unilossseg.conformance.records.errors import RecordError

RECORD = ("record", "unilossseg:DiceLoss", "--case", "plain", *SMALL)


def small():
    """A record of one small case."""
    return recording.record("unilossseg:DiceLoss", {}, inputs.generated(inputs.Recipe((1, 2, 3)), ["plain"]))


def test_a_symbolic_link_stays_one(project):
    (project / "elsewhere").mkdir()
    target = project / "elsewhere" / "ref.uls"
    target.write_text("an older one")
    for name, points_to in (
        ("link.uls", "elsewhere/ref.uls"),
        ("dangling.uls", "elsewhere/new.uls"),
        ("chain.uls", "link.uls"),
    ):
        (project / name).symlink_to(points_to)
        run(*RECORD, "--out", name)
        assert (project / name).is_symlink()
        assert file.read(project / name).target == "unilossseg:DiceLoss"
    assert sorted(path.name for path in target.parent.iterdir()) == ["new.uls", "ref.uls"]


def test_a_file_behind_a_link_stays_whole(project, monkeypatch):
    (project / "old.json").write_text("an older one")
    (project / "link.json").symlink_to("old.json")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordError, match=r"No space left.*Nothing was changed there"):
        file.replace_whole(project / "link.json", b"new")
    assert (project / "link.json").read_text() == "an older one"
    assert sorted(path.name for path in project.iterdir()) == ["link.json", "old.json"]


def test_a_link_into_no_folder_is_refused_before_the_work(project):
    (project / "link.uls").symlink_to("missing/ref.uls")
    assert "there is no folder" in run("record", "no.such:module", "--out", "link.uls", expect=2)


@pytest.mark.parametrize("command", [RECORD, ("compare", "ref.uls", "ref.uls", "--json")])
def test_a_folder_that_takes_no_file_is_refused_before_the_work(project, monkeypatch, command):
    run(*RECORD, "--out", "ref.uls")

    def refused(**_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    # As in a folder of somebody else; where the tests run as root, there is none.
    monkeypatch.setattr(tempfile, "mkstemp", refused)
    monkeypatch.setattr(recording, "record", lambda *_, **__: pytest.fail("the work was done"))
    monkeypatch.setattr(page.Comparison, "of", lambda *_: pytest.fail("the work was done"))
    said = run(*command, *(("--out",) if command == RECORD else ()), "new", expect=2)
    assert f"new: no file can be made in {project} (PermissionError" in said
    assert [path.name for path in project.iterdir()] == ["ref.uls"]


def test_a_name_that_is_too_long_is_refused_before_the_work(project, monkeypatch):
    monkeypatch.setattr(recording, "record", lambda *_, **__: pytest.fail("the work was done"))
    said = run(*RECORD, "--out", "n" * 300, expect=2)
    assert f"no file can be made in {project} (OSError: " in said
    assert "File name too long" in said


def test_a_place_that_was_tried_is_left_as_it_was(project):
    file.check_place("--out", project / "new.uls")
    assert list(project.iterdir()) == []


def test_a_pipe_is_written_into(project):
    os.mkfifo(project / "pipe")
    received = []
    reader = threading.Thread(target=lambda: received.append((project / "pipe").read_bytes()), daemon=True)
    reader.start()
    run(*RECORD, "--out", "pipe")
    reader.join(timeout=60)
    assert stat.S_ISFIFO((project / "pipe").stat().st_mode)
    assert file.read_bytes("pipe", received[0]).target == "unilossseg:DiceLoss"
    assert [path.name for path in project.iterdir()] == ["pipe"]


def test_a_pipe_that_nobody_reads_to_its_end_is_an_error(project):
    os.mkfifo(project / "pipe")
    reader = threading.Thread(target=lambda: (project / "pipe").open("rb").close(), daemon=True)
    reader.start()
    with pytest.raises(RecordError, match="BrokenPipeError") as caught:
        file.replace_whole(project / "pipe", bytes(2**22))
    reader.join(timeout=60)
    # A part of it has gone through.
    assert "Nothing was changed" not in str(caught.value)
    assert stat.S_ISFIFO((project / "pipe").stat().st_mode)


def test_a_device_is_written_into(project):
    # A terminal of the test's own: if this fails, no device that anybody needs is replaced.
    ours, theirs = os.openpty()
    try:
        (project / "link").symlink_to(os.ttyname(theirs))
        file.check_place("--json", project / "link")
        file.replace_whole(project / "link", b"written")
        assert select.select([ours], [], [], 10)[0] == [ours]
        assert os.read(ours, 100) == b"written"
        assert stat.S_ISCHR(os.stat(os.ttyname(theirs)).st_mode)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_record_that_would_not_be_read_is_not_written(project, monkeypatch):
    made = small()
    many = replace(made, cases=tuple(replace(made.cases[0], name=f"case{number}") for number in range(40)))
    file.write(project / "ref.uls", many)
    before = (project / "ref.uls").read_bytes()
    length = int.from_bytes(before[:8], "little")
    monkeypatch.setattr(file, "_LONGEST_HEADER", length - 1)
    with pytest.raises(RecordError, match="of fewer cases each"):
        file.write(project / "ref.uls", replace(many, seed=1))
    assert (project / "ref.uls").read_bytes() == before
    with pytest.raises(RecordError, match="ask for a header"):
        file.read(project / "ref.uls")
    monkeypatch.setattr(file, "_LONGEST_HEADER", length)
    file.write(project / "ref.uls", replace(many, seed=1))
    assert file.read(project / "ref.uls").seed == 1
