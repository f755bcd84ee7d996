"""Examples that use Paddle."""

import pytest
from checks.documentation import ROOT, all_examples, run, run_doctests

EXAMPLES = all_examples("paddle")


@pytest.mark.parametrize("module", ["unilossseg.paddle", "unilossseg.backends.paddle"])
def test_docstrings(module):
    assert run_doctests(module) >= (module == "unilossseg.paddle")


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{page}:{line}" for page, line, _ in EXAMPLES])
def test_example(example):
    run(*example)
    assert example[2].strip()


def test_the_readme_has_an_example():
    assert not (ROOT / "README.md").read_text(encoding="utf-8") or "README.md" in [page for page, *_ in EXAMPLES]
