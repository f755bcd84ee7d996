"""A pytest plugin for array-api-tests: leaves out what is not about the functions that Paddle's small namespace supplies.

The tests of other functions, of Python's operators (which the framework's arrays resolve by themselves) and of complex
numbers would only say again that these are not there. Used with `-p paddle_supplied`: see docs/array-api-tests.md.
"""

import re

import paddle
import pytest


def pytest_configure():
    """Shapes are tuples: Paddle's own (a list in 2, a Size in 3) make the suite give up before it looks at a value."""
    owner = next(kind for kind in type(paddle.to_tensor([1.0])).__mro__ if "shape" in vars(kind))
    shape = vars(owner)["shape"]
    paddle.Tensor.shape = property(lambda self: tuple(shape.__get__(self)))


def function_of(name, known):
    """The function that a test is about, by its name and its first parameter; '' where neither names one."""
    test, _, parameter = name.removeprefix("test_").partition("[")
    word = re.match(r"\w*", parameter)[0]
    if word in known or word.startswith("__"):
        return word
    parts = test.split("_")
    prefixes = ("_".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in known), "")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Deselects them."""
    from array_api_tests import xp
    from array_api_tests.stubs import name_to_func

    kept, left_out = [], []
    for item in items:
        name = function_of(item.name, name_to_func)
        supplied = not name or (not name.startswith("__") and hasattr(xp, name))
        is_complex = "imag(x_i)" in item.name and not hasattr(xp, "complex64")
        (kept if supplied and not is_complex else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept
