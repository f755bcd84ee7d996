"""Where the files of a run are put: links stay, pipes are written into, and what was made for a refused run goes again."""

import os
import stat
import threading

import pytest

from unilossseg.conformance.results import check_writable, taken_back_on_failure, write_together, write_whole


@pytest.mark.parametrize("keep_old", [True, False])
def test_a_link_stays_one_and_its_file_is_written(tmp_path, keep_old):
    far, near = tmp_path / "far", tmp_path / "near"
    far.mkdir()
    near.mkdir()
    (far / "kept").write_text("as it was")
    (near / "kept").symlink_to(far / "kept")
    (near / "new").symlink_to("../far/new")  # leads to no file yet
    write_together(near, {"kept": "1", "new": "2", "plain": "3"}, keep_old=keep_old)
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


def test_a_device_stays_one(tmp_path):
    (tmp_path / "nowhere").symlink_to(os.devnull)
    write_together(tmp_path, {"nowhere": "gone", "page": "kept"})
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert (tmp_path / "nowhere").is_symlink()
    assert (tmp_path / "page").read_text() == "kept"


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
