"""The pytest plugin: inert unless asked, and an item for each case."""

import json

from checks.pytest_runs import outcomes, run_pytest

# As few cases as the question allows.
DICE = ["--unilossseg-loss=DiceLoss", "--unilossseg-quick", "-k", "DiceLoss/paddleseg/plain"]
# What is imported when pytest has finished, and what the plugin has registered.
SEEN = """
import json, sys, pytest
class Look:
    def pytest_unconfigure(self, config):
        names = [name for name in sys.modules if name.startswith("unilossseg.conformance")]
        names += sorted({"torch", "paddle", "typer", "jinja2", "array_api_strict"} & set(sys.modules))
        print("\\nSEEN", json.dumps([names, config.pluginmanager.hasplugin("unilossseg-suite")]))
sys.exit(pytest.main(sys.argv[1:], plugins=[Look()]))
"""


def seen(done):
    line = next(line for line in done.stdout.splitlines() if line.startswith("SEEN "))
    return json.loads(line.removeprefix("SEEN "))


def test_without_an_option_it_does_nothing(users_folder):
    done = run_pytest(users_folder, "-q", code=SEEN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen(done) == [["unilossseg.conformance", "unilossseg.conformance.pytest_plugin"], False]
    assert "1 passed" in done.stdout


def test_a_backend_of_the_package_has_an_item_for_each_case(users_folder):
    done = run_pytest(
        users_folder, "-v", "-rs", *DICE, "--unilossseg-backend=numpy", "--unilossseg-backend=strict", code=SEEN
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done) == {
        f"unilossseg[{backend}]::DiceLoss/paddleseg/plain/{dtype}": "PASSED" if dtype in dtypes else "SKIPPED"
        for backend, dtypes in (("numpy", ("float16", "float32")), ("strict", ("float32",)))
        for dtype in ("float16", "bfloat16", "float32")
    }
    assert "the Array API standard has no float16 (https://data-apis.org/array-api" in done.stdout
    # So the test above can fail. No framework comes into pytest's process either way.
    modules, registered = seen(done)
    assert registered
    assert "unilossseg.conformance.pytest_suite" in modules
    assert not {"torch", "paddle", "array_api_strict"} & set(modules)
