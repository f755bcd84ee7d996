"""The capability table: it is the one truth, the README shows it, exceptions expire, and what it says is tried."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pytest
from checks.conformance_cli import unilossseg

from unilossseg import LOSSES
from unilossseg.backends import KNOWN, installed_backends
from unilossseg.backends.numpy import LOOPS
from unilossseg.conformance import capabilities, cases, probes, protocol
from unilossseg.conformance.capabilities import EXCEPTIONS, EXPECTED_FAILURE, UNSUPPORTED, Exemption, find
from unilossseg.conformance.capability_table import BEGIN, END, markdown, replaced, text
from unilossseg.conformance.known import Known
from unilossseg.conformance.run import run
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, EXPECTED, Verdict

ROOT = Path(__file__).parents[1]
LATER = date(2999, 1, 1)
# As few cases as the question allows: each run starts a process.
ONE = ["--loss", "DiceLoss", "-k", "paddleseg/plain/float32", "--backend", "numpy"]


def exemption(**changes):
    return Exemption(
        **{
            "backends": ("numpy",),
            "features": ("closed form",),
            "kind": EXPECTED_FAILURE,
            "reason": "a made-up reason",
            "link": "docs/precision.md",
            "expires": LATER,
            **changes,
        }
    )


@pytest.fixture
def with_exception(monkeypatch):
    def install(**changes):
        monkeypatch.setattr(capabilities, "EXCEPTIONS", (*EXCEPTIONS, exemption(**changes)))

    return install


# --- the table ----------------------------------------------------------------------------------------------------------


def test_the_readme_shows_the_table():
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "## What works where" in page
    assert page == replaced(page), "run `unilossseg capabilities --markdown` and put it between the markers of README.md"


def test_a_page_without_markers_is_an_error():
    with pytest.raises(ValueError, match="no block between"):
        replaced("# A page")
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb\n") == f"a\n{BEGIN}\n{markdown()}{END}\nb\n"


def test_the_command_prints_every_backend_feature_loss_and_exception():
    plain = unilossseg("capabilities").stdout
    assert plain == text()
    assert unilossseg("capabilities", "--markdown").stdout == markdown()
    for name in (*capabilities.FEATURES, *LOSSES, *(column.title for column in capabilities.COLUMNS)):
        assert name in plain
    for entry in EXCEPTIONS:
        reason = entry.reason[1:]  # its first letter is a capital there
        assert reason in plain
        assert reason in markdown()
        assert entry.link in markdown()
        assert entry.expires.isoformat() in markdown()


def test_links_to_pages_lead_somewhere():
    for entry in EXCEPTIONS:
        assert entry.link.startswith("https://") or (ROOT / entry.link.partition("#")[0]).exists(), entry.link


def test_every_exception_is_about_known_things_and_none_has_expired():
    assert {column.backend for column in capabilities.COLUMNS} == set(KNOWN)
    assert set(protocol.MODES) <= set(capabilities.FEATURES)
    for entry in EXCEPTIONS:
        assert set(entry.backends) <= set(KNOWN)
        assert set(entry.losses) <= set(LOSSES)
        assert not entry.overdue
    assert capabilities.overdue(KNOWN) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ("float8",)}, "features must be among .*'float8'"),
        ({"kind": "broken"}, "kind must be 'unsupported' or 'expected failure'"),
        ({"reason": ""}, "must not be empty"),
        ({"backends": ()}, "must not be empty"),
    ],
)
def test_an_exception_that_says_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        exemption(**changes)


def test_an_exception_travels_as_json():
    entry = exemption(versions=("2.",), losses=("DiceLoss",), cases="plain", shows="off")
    assert Exemption.from_json(json.loads(json.dumps(entry.as_json()))) == entry


def test_what_an_exception_is_about(monkeypatch):
    entry = exemption(backends=("paddle",), features=("bfloat16",), versions=("2.6.",), losses=("DiceLoss",), cases="plain")
    monkeypatch.setattr(capabilities, "EXCEPTIONS", ())

    def found(backend="paddle", features=("bfloat16", "face"), version="2.6.2", loss="DiceLoss", case="DiceLoss/-/plain"):
        return find(backend, features, version=version, loss=loss, case=case, further=[entry])

    assert found() is entry
    assert found(backend="torch") is None
    assert found(features=("float32", "face")) is None
    assert found(version="2.60.0") is None
    assert found(version="") is None
    assert found(loss="L1Loss") is None
    assert found(case="DiceLoss/-/ties") is None
    assert find("paddle", ("bfloat16",), version="2.6.2", kind=UNSUPPORTED, further=[entry]) is None
    # What is about one loss takes the dtype away from no other.
    assert "bfloat16" in capabilities.dtypes("paddle", "2.6.2")


def test_dtypes_and_modes_come_from_the_table():
    assert capabilities.dtypes("numpy") == ("float16", "float32", "float64")
    assert capabilities.dtypes("strict") == ("float32", "float64")
    assert capabilities.modes("strict") == ("closed form", "plain formula")
    assert capabilities.dtypes("paddle", "2.6.2") == cases.DTYPES
    assert capabilities.modes("torch") == protocol.MODES
    assert not capabilities.supports("numpy", capabilities.AUTOGRAD)


# --- in a run -----------------------------------------------------------------------------------------------------------


def verdicts(outcome):
    return {result.mode: result.verdict for result in outcome.results}


def test_what_is_declared_unsupported_is_not_judged(with_exception):
    with_exception(kind=UNSUPPORTED, losses=("DiceLoss",))
    outcome = run(cases.selected(["DiceLoss"], "paddleseg/plain/float32"), ["numpy"])
    assert verdicts(outcome)["closed form"].message == "a made-up reason"
    assert verdicts(outcome)["closed form"].status == UNSUPPORTED
    assert verdicts(outcome)["plain formula"].status == CONFORM


def test_an_expected_failure_that_conforms_fails_the_run(with_exception, tmp_path):
    with_exception(losses=("DiceLoss",))
    done = unilossseg("conformance", "run", "--out", str(tmp_path), *ONE)
    assert done.exit_code == 1
    assert "conforms, and was expected to fail (a made-up reason): remove the exception" in " ".join(done.stdout.split())
    outcome = run(cases.selected(["DiceLoss"], "paddleseg/plain/float32"), ["numpy"])
    assert {mode: (verdict.status, verdict.link) for mode, verdict in verdicts(outcome).items()} == {
        "closed form": (DIFFERS, "docs/precision.md"),
        "plain formula": (CONFORM, ""),
    }


@pytest.mark.parametrize("status", [DIFFERS, ERRORED])
def test_a_failure_that_is_expected_is_neither_a_pass_nor_a_failure(with_exception, status):
    with_exception(losses=("DiceLoss",))
    known = Known("numpy", "numpy", "2", ("float32",), ("closed form",))
    (case,) = cases.selected(["DiceLoss"], "paddleseg/plain/float32")
    settled = known.settled(case, "closed form", Verdict(status, "as it is"))
    assert (settled.status, settled.message) == (EXPECTED, "a made-up reason: as it is")
    assert known.settled(case, "plain formula", Verdict(status, "as it is")) == Verdict(status, "as it is")


def test_another_failure_than_the_expected_one_stands(with_exception):
    with_exception(losses=("DiceLoss",), shows="as it is")
    known = Known("numpy", "numpy", "2", ("float32",), ("closed form",))
    (case,) = cases.selected(["DiceLoss"], "paddleseg/plain/float32")
    assert known.settled(case, "closed form", Verdict(DIFFERS, "as it is")).status == EXPECTED
    assert known.settled(case, "closed form", Verdict(DIFFERS, "another")) == Verdict(DIFFERS, "another")
    assert "remove the exception" in known.settled(case, "closed form", Verdict(CONFORM)).message


def test_each_of_several_expected_failures_of_a_case_is_looked_at():
    further = tuple(exemption(reason=f"it is {word}", shows=word) for word in ("late", "short"))
    known = Known("numpy", "numpy", "2", ("float32",), ("closed form",), further)
    (case,) = cases.selected(["DiceLoss"], "paddleseg/plain/float32")
    assert known.settled(case, "closed form", Verdict(DIFFERS, "short of two")).message == "it is short: short of two"
    assert known.settled(case, "closed form", Verdict(DIFFERS, "late by two")).message == "it is late: late by two"
    assert known.settled(case, "closed form", Verdict(DIFFERS, "another")) == Verdict(DIFFERS, "another")
    assert "(it is late; it is short): remove" in known.settled(case, "closed form", Verdict(CONFORM)).message


@pytest.mark.parametrize("features", [("closed form",), ("backward twice",)], ids=["tried here", "tried by a probe"])
def test_an_exception_past_its_expiry_is_a_warning_in_a_run(with_exception, tmp_path, features):
    """An installed release must not fail of age; whoever maintains it learns it from `capabilities --check`."""
    kind = UNSUPPORTED if features == ("closed form",) else EXPECTED_FAILURE
    with_exception(kind=kind, features=features, losses=("DiceLoss",), expires=capabilities.today())
    done = unilossseg("conformance", "run", "--out", str(tmp_path), *ONE)
    assert done.exit_code == 0, done.stdout
    message = f"warning: the exception for {features[0]} on numpy expired on"
    assert message in " ".join(done.stdout.split())
    assert "renew or remove it" in " ".join(done.stdout.split())
    header = json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0])
    assert message.removeprefix("warning: ") in header["expired_exceptions"][0]


def test_an_exception_past_its_expiry_fails_the_check(with_exception):
    with_exception(kind=UNSUPPORTED, features=("backward twice",), expires=capabilities.today())
    done = unilossseg("capabilities", "--check", "--backend", "numpy")
    assert done.exit_code == 1
    assert "the exception for backward twice on numpy expired on" in done.stdout


def test_an_expired_exception_that_a_backend_brings_itself_is_an_error():
    entry = exemption(kind=UNSUPPORTED, features=("float32",), expires=date(2020, 1, 1))
    (case,) = cases.selected(["DiceLoss"], "paddleseg/plain/float32")
    known = Known("numpy", "numpy", "2", ("float32",), ("closed form",), (entry,))
    assert known.unsupported(case, "closed form").status == ERRORED
    assert "expired on 2020-01-01" in known.unsupported(case, "closed form").message


def test_an_exception_holds_until_the_day_before_its_expiry(with_exception):
    with_exception(expires=capabilities.today() + timedelta(days=1))
    assert capabilities.overdue(["numpy"]) == []


def test_expiry_of_a_backend_that_does_not_run_is_no_matter(with_exception):
    with_exception(backends=("paddle",), expires=date(2020, 1, 1))
    assert capabilities.overdue(["numpy", "torch"]) == []
    assert len(capabilities.overdue(["paddle"])) == 1


# --- what the run does not try, probes do -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def surprises():
    # Side by side: each waits for the import of its framework.
    names = installed_backends()
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(probes.check, names), strict=True))


@pytest.mark.parametrize("backend", list(KNOWN))
def test_the_table_is_right(surprises, backend):
    if backend not in surprises:
        pytest.skip(f"{backend} is not installed here")
    assert surprises[backend] == []


def test_every_feature_is_tried():
    assert set(probes.PROBES) == set(capabilities.PROBED)


def test_probes_notice_both_ways(monkeypatch):
    monkeypatch.setattr(capabilities, "EXCEPTIONS", (exemption(features=("exact scalars",)), *EXCEPTIONS[2:3]))
    (found,) = probes.check("numpy")
    assert "exact scalars (DiceLoss) works, and is expected to fail (a made-up reason): remove the exception" in found
    monkeypatch.setattr(capabilities, "EXCEPTIONS", ())
    found = probes.check("numpy")
    said = "should work and fails: NotImplementedError: conformance/"
    assert any(f"autograd (DiceLoss) {said}frameworks.py does not say how numpy differentiates" in line for line in found)
    assert any(f"backward twice (DiceLoss) {said}probes.py does not say how numpy does it" in line for line in found)


def test_a_process_that_dies_is_a_failure_of_what_it_tried(monkeypatch):
    monkeypatch.setattr(probes, "_tried", lambda backend, wanted: ("1.0", dict.fromkeys(list(wanted)[:1], ""), "it crashed"))
    found = probes.check("numpy")
    assert found == ["numpy 1.0: zero-copy gradient (DiceLoss) should work and fails: it crashed"]


@pytest.mark.parametrize(
    ("shows", "failure", "expected"),
    [
        ("", "RuntimeError: no derivative", True),
        ("", "the process ended with exit status -11", True),
        ("", "ProbeError: the gradient is off by 0.5", False),
        ("", "ProbeError: there is no gradient", False),
        ("no derivative", "RuntimeError: no derivative", True),
        ("no derivative", "RuntimeError: no memory", False),
        ("no derivative", "the process ended with exit status -11", False),
        ("no derivative", "ProbeError: the gradient is off by 0.5", False),
        ("exit status", "the process ended with exit status -11", True),
        ("ProbeError: 1 + 0.1 is", "ProbeError: 1 + 0.1 is 1.1000000014901161", True),
    ],
)
def test_an_expected_failure_must_be_the_one_that_is_declared(with_exception, shows, failure, expected):
    with_exception(features=("exact scalars",), shows=shows)
    said = probes._surprise("numpy", "2.0", "exact scalars", "DiceLoss", failure)
    where = "numpy 2.0: exact scalars (DiceLoss)"
    assert said == ("" if expected else f"{where} fails, and not as expected (a made-up reason): {failure}")


@pytest.mark.parametrize("version", ["2.6.2", "3.3.1"])
def test_numbers_that_are_wrong_without_a_word_are_no_expected_failure(monkeypatch, version):
    wrong = "ProbeError: the gradient is off by 0.5"
    monkeypatch.setattr(probes, "_tried", lambda backend, wanted: (version, dict.fromkeys(wanted, wrong), ""))
    found = probes.check("paddle")
    assert all(line.endswith(wrong) for line in found)
    tried = [feature for feature in probes.PROBES if find("paddle", (feature,), kind=UNSUPPORTED) is None]
    assert len(found) == sum(len(probes.LOSSES) if feature in probes._BY_LOSS else 1 for feature in tried)


def test_every_expected_failure_of_the_table_says_how_it_shows():
    assert all(entry.shows for entry in EXCEPTIONS if entry.kind == EXPECTED_FAILURE)


def test_a_probe_tells_all_of_an_error(monkeypatch, capsys):
    """Paddle puts the place in its own code below what a closed form says."""

    def fails(trial):
        raise OSError("(External) what it is\n\nAt:\n  paddle.py(1): backward\n (at /paddle/node.cc:1)")

    monkeypatch.setitem(probes.PROBES, "exact scalars", fails)
    monkeypatch.setattr("sys.stdin", io.StringIO('["exact scalars", "DiceLoss"]\n'))
    probes.main("numpy")
    _, tried = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert tried["failure"] == "OSError: (External) what it is At: paddle.py(1): backward (at /paddle/node.cc:1)"


def test_the_check_command_tells_what_was_tried():
    done = unilossseg("capabilities", "--check", "--backend", "numpy")
    assert done.exit_code == 0
    assert "tried: numpy" in done.stdout
    assert f"loops on the CPU: {LOOPS}" in done.stdout
    assert unilossseg("capabilities", "--check", "--backend", "nmupy").exit_code == 2
