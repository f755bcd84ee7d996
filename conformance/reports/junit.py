"""A run as JUnit XML, which continuous integration reads."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from unilossseg.conformance.reports.model import ResultLine, StoredRun
from unilossseg.conformance.reports.summary import environment_of
from unilossseg.conformance.verdict import DIFFERS, ERRORED, EXPECTED, UNSUPPORTED

#: Troubles of the run as a whole stand in a suite of their own, so that the file fails whenever the run does.
WHOLE_RUN = "the run as a whole"


def render(run: StoredRun) -> str:
    """One suite for each backend, one test for each case and mode."""
    root = ElementTree.Element("testsuites", name="UniLossSeg conformance")
    for backend in run.backends:
        root.append(_suite(run, backend, [result for result in run.results if result.backend == backend]))
    if run.troubles or run.header.expired:
        root.append(_whole(run))
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    root.set("time", f"{run.header.seconds:.3f}")
    ElementTree.indent(root, " ")
    # ElementTree escapes; characters that XML cannot hold never come out of a record.
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(run: StoredRun, backend: str, results: Sequence[ResultLine]) -> ElementTree.Element:
    suite = _named("testsuite", backend, results)
    suite.set("time", f"{sum(result.seconds for result in results):.3f}")
    suite.set("timestamp", run.header.started.strftime("%Y-%m-%dT%H:%M:%S"))
    properties = ElementTree.SubElement(suite, "properties")
    for title, row in environment_of(run):
        ElementTree.SubElement(properties, "property", name=title, value=row[run.backends.index(backend)])
    for result in results:
        suite.append(_test(result))
    return suite


def _named(tag: str, name: str, results: Sequence[ResultLine]) -> ElementTree.Element:
    counts = {
        "tests": len(results),
        "failures": sum(result.status == DIFFERS for result in results),
        "errors": sum(result.status == ERRORED for result in results),
        "skipped": sum(result.status in (UNSUPPORTED, EXPECTED) for result in results),
    }
    return ElementTree.Element(tag, {"name": name, **{key: str(count) for key, count in counts.items()}})


def _test(result: ResultLine) -> ElementTree.Element:
    test = ElementTree.Element(
        "testcase",
        name=f"{result.case.id} [{result.mode}]",
        classname=f"{result.backend}.{result.case.loss}",
        time=f"{result.seconds:.6f}",
    )
    if result.is_bad:
        tag = "failure" if result.status == DIFFERS else "error"
        found = ElementTree.SubElement(test, tag, message=result.first_line, type=result.status)
        found.text = f"{result.message}\n\nTo repeat it: {result.repeat}"
    elif result.status in (UNSUPPORTED, EXPECTED):
        ElementTree.SubElement(test, "skipped", message=f"{result.status}: {result.first_line}")
    if result.warning:
        ElementTree.SubElement(test, "system-out").text = f"warning: {result.warning}"
    return test


def _whole(run: StoredRun) -> ElementTree.Element:
    tests, failures = str(len(run.troubles) + len(run.header.expired)), str(len(run.troubles))
    counts = {"tests": tests, "failures": failures, "errors": "0", "skipped": "0"}
    suite = ElementTree.Element("testsuite", {"name": WHOLE_RUN, **counts, "time": "0"})
    for trouble in run.troubles:
        test = ElementTree.SubElement(suite, "testcase", name=trouble, classname="run", time="0")
        ElementTree.SubElement(test, "failure", message=trouble, type="trouble")
    for line in run.header.expired:
        test = ElementTree.SubElement(suite, "testcase", name=line, classname="run", time="0")
        ElementTree.SubElement(test, "system-out").text = f"warning: {line}"
    return suite
