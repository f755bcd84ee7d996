"""Where the files of a run are put: links stay, pipes are written into, and what was made for a refused run goes again."""

import contextlib
import errno
import itertools
import os
import stat
import threading
from pathlib import Path

import pytest

from unilossseg.conformance.results import check_writable, final_place, taken_back_on_failure, write_together, write_whole


def test_a_link_stays_one_and_its_file_is_written(tmp_path):
    far, near = tmp_path / "far", tmp_path / "near"
    far.mkdir()
    near.mkdir()
    (far / "kept").write_text("as it was")
    (near / "kept").symlink_to(far / "kept")
    (near / "new").symlink_to("../far/new")  # leads to no file yet
    write_together(near, {"kept": "1", "new": "2", "plain": "3"})
    assert [(near / name).is_symlink() for name in ("kept", "new", "plain")] == [True, True, False]
    assert {path.name: path.read_text() for path in far.iterdir()} == {"kept": "1", "new": "2"}
    assert (near / "plain").read_text() == "3"


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard = []
    listener = threading.Thread(target=lambda: heard.append(pipe.read_text()), daemon=True)
    listener.start()
    write_whole(pipe, "some\ntext")
    listener.join(timeout=30)
    assert heard == ["some\ntext"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_what_cannot_be_looked_at_shows_when_it_is_written(tmp_path):
    place = tmp_path / ("x" * 300)
    assert final_place(place) == place
    with pytest.raises(OSError, match="File name too long"):
        write_whole(place, "")


def test_a_device_stays_one(tmp_path):
    (tmp_path / "nowhere").symlink_to(os.devnull)
    write_together(tmp_path, {"nowhere": "gone", "page": "kept"})
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert (tmp_path / "nowhere").is_symlink()
    assert (tmp_path / "page").read_text() == "kept"


@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "a file that is mounted"), KeyboardInterrupt()])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("before", [{name: f"old {name}" for name in "abc"}, {"b": "old b"}, {}])
# Three files are set aside, and three take their places.
@pytest.mark.parametrize("step", range(6))
def test_old_files_stay_where_the_new_ones_cannot_come(tmp_path, monkeypatch, step, before, late, error):
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    replace, steps = Path.replace, itertools.count()

    def broken(path, target):
        if next(steps) != step:
            return replace(path, target)
        if late:  # what interrupts may come when the file has just been moved
            with contextlib.suppress(FileNotFoundError):
                replace(path, target)
        raise error

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(type(error)):
        write_together(tmp_path, {name: f"new {name}" for name in "abc"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before
    write_together(tmp_path, {name: f"new {name}" for name in "abc"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: f"new {name}" for name in "abc"}


def test_what_cannot_be_put_back_is_not_lost(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old a")
    replace, steps = Path.replace, itertools.count()

    def broken(path, target):
        if next(steps) == 0:
            return replace(path, target)
        raise OSError(errno.EIO, "the disk goes")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="the disk goes"):
        write_together(tmp_path, {"a": "new a"})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old a"]


@pytest.mark.parametrize("write", [write_together, lambda folder, texts: write_whole(folder / "a", texts["a"])])
def test_two_that_write_at_the_same_time_share_no_name(tmp_path, monkeypatch, write):
    """The second begins and ends while the first writes; both have the same number, as in two containers."""
    fsync = os.fsync

    def interrupted(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        write(tmp_path, {"a": "the second's"})
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", interrupted)
    write(tmp_path, {"a": "the first's"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "the first's"}


def test_two_runs_try_one_folder_at_the_same_time(tmp_path, monkeypatch):
    """The second begins and ends its trial while the first has not taken its own back."""
    close, seconds = os.close, []

    def interrupted(descriptor):
        close(descriptor)
        monkeypatch.setattr(os, "close", close)
        seconds.append(check_writable(tmp_path))

    monkeypatch.setattr(os, "close", interrupted)
    assert check_writable(tmp_path) == []
    assert seconds == [[]]
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_somebody_else_swept_away(tmp_path, monkeypatch):
    close = os.close

    def swept(descriptor):
        close(descriptor)
        for path in tmp_path.iterdir():
            path.unlink()

    monkeypatch.setattr(os, "close", swept)
    assert check_writable(tmp_path) == []


def test_folders_made_for_nothing_go_again(tmp_path):
    made = check_writable(tmp_path / "a" / "b")
    assert made == [tmp_path / "a" / "b", tmp_path / "a"]
    with taken_back_on_failure(made):
        pass
    assert (tmp_path / "a" / "b").is_dir()
    with pytest.raises(KeyboardInterrupt), taken_back_on_failure(made):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_stays(tmp_path):
    made = check_writable(tmp_path / "a" / "b")
    (tmp_path / "a" / "other").write_text("")
    with pytest.raises(ValueError, match="refused"), taken_back_on_failure(made):
        raise ValueError("refused")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["other"]


def test_a_place_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        check_writable(tmp_path / "file" / "b")
    assert (tmp_path / "file").read_text() == ""
