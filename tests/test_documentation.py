"""Examples of the neutral modules and pages."""

import dataclasses
import pkgutil
import re

import pytest
from checks.documentation import FRAMEWORKS, PAGES, ROOT, all_examples, examples, run, run_doctests

import unilossseg
import unilossseg.backends

SKIPPED = {f"unilossseg.{name}" for name in (*FRAMEWORKS, "__main__", "conformance")}
MODULES = [
    "unilossseg",
    *(
        module.name
        for module in pkgutil.walk_packages(unilossseg.__path__, "unilossseg.")
        if not module.name.startswith(tuple(SKIPPED))
    ),
    "unilossseg.backends",
    "unilossseg.backends._backend",
    "unilossseg.backends._registry",
    "unilossseg.backends._threads",
    "unilossseg.backends.numpy",
    "unilossseg.backends.strict",
]
EXAMPLES = all_examples(None)


@pytest.mark.parametrize("module", sorted(set(MODULES)))
def test_docstrings(module):
    assert run_doctests(module) >= 0


@pytest.mark.parametrize("name", list(unilossseg.LOSSES))
def test_every_loss_has_an_example_a_formula_and_its_shapes(name):
    text = unilossseg.LOSSES[name].__doc__
    for piece in (">>> ", ".. math::", "Parameters\n", "Shapes and dtypes\n", "Raises\n", "References\n"):
        assert piece in text, piece
    public = [field.name for field in dataclasses.fields(unilossseg.LOSSES[name]) if field.name != "validate"]
    assert [field for field in public if f"    {field}\n" not in text] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{page}:{line}" for page, line, _ in EXAMPLES])
def test_example(example):
    run(*example)
    assert example[2].strip()


def test_the_readme_has_examples():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not text or examples("README.md")


@pytest.mark.parametrize("page", PAGES)
def test_links_of_pages_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not ((ROOT / page).parent / link).exists()] == []
