"""Examples in docstrings and in the documentation's pages are run as they stand."""

from __future__ import annotations

import doctest
import importlib
import re
import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
FRAMEWORKS = ("torch", "paddle")
_USES = r"""^\s*(?:import|from) (?:unilossseg\.)?{0}\b|backend=["']{0}["']"""


def examples(page):
    """The Python blocks of a page, each with its line number and the framework that it imports or names as a backend."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        code = match[1]
        imported = [
            name for name in FRAMEWORKS if re.search(rf"^\s*(import|from) (unilossseg\.)?{name}\b", code, re.MULTILINE)
        ]
        named = [name for name in FRAMEWORKS if re.search(rf"""^[^#\n]*backend=["']{name}["']""", code, re.MULTILINE)]
        frameworks = sorted({*imported, *named})
        assert len(frameworks) < 2, f"{page}: an example cannot use both frameworks"
        found.append((text.count("\n", 0, match.start()) + 2, code, frameworks[0] if frameworks else None))
    return found


def all_examples(framework):
    """(page, line, code) of the examples for a framework; None: those that need neither."""
    return [(page, line, code) for page in PAGES for line, code, name in examples(page) if name == framework]


def run(page, line, code):
    """Runs an example as a module of its own; a traceback shows its place in the page."""
    module = types.ModuleType(f"example_{line}")
    filled = "\n" * (line - 1) + code
    sys.modules[module.__name__] = module  # where a dataclass looks for its annotations
    try:
        exec(compile(filled, str(ROOT / page), "exec"), vars(module))  # noqa: S102  our own documentation
    finally:
        del sys.modules[module.__name__]


def run_doctests(module):
    """Runs the examples of a module's docstrings and returns how many there were."""
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0, f"{result.failed} of {module}'s examples fail: see the output above"
    return result.attempted
