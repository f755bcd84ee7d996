"""The commands record, replay and compare: places for their files that cannot be meant."""

import pytest
from checks.record_cli import SMALL, run

LOSS = "unilossseg:DiceLoss"
ON_NUMPY = ("--framework", "numpy")


@pytest.fixture
def reference(project):
    run("record", LOSS, "--out", "ref.uls", *SMALL, *ON_NUMPY)
    return project / "ref.uls"


def test_a_record_that_is_missing_is_refused_whether_or_not_there_is_an_older_file(project):
    (project / "out.uls").write_text("as it was")
    said = run("replay", "missing.uls", LOSS, "--out", "out.uls", *ON_NUMPY, expect=2)
    assert said.startswith("unilossseg: missing.uls: it cannot be read")
    assert "expected a record made by `unilossseg record`" in said
    assert (project / "out.uls").read_text() == "as it was"


def test_a_replay_does_not_overwrite_its_record(reference):
    before = reference.read_bytes()
    said = run("replay", reference, LOSS, "--out", "./ref.uls", *ON_NUMPY, expect=2)
    assert "it is the record that is to be replayed; expected another file" in said
    assert reference.read_bytes() == before


@pytest.mark.parametrize("other", ["same.out", "./same.out", "linked.out"])
def test_a_page_and_its_json_need_a_file_each(project, reference, other):
    (project / "linked.out").symlink_to("same.out")
    said = run("compare", reference, reference, "--html", "same.out", "--json", other, expect=2)
    assert "it is the file of --html too; expected another file. Name another." in said
    assert not (project / "same.out").exists()
