"""Workers in other environments: what makes one, what is refused, and what is recorded of it."""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from checks.conformance_cli import unilossseg

from unilossseg import __version__
from unilossseg.backends.numpy import LOOPS
from unilossseg.conformance import cli, environment, interpreters, pool, replies

ONE = ["--loss", "L1Loss", "-k", "plain/float32"]


def command(out, *arguments):
    return unilossseg("conformance", "run", "--out", out / "report", *ONE, *arguments)


@pytest.fixture
def interpreter(tmp_path):
    """Another environment: this one's Python with other things before its packages, or without any of them."""

    def make(files=None, options=""):
        packages = tmp_path / "packages"
        packages.mkdir()
        for name, text in (files or {}).items():
            (packages / name).parent.mkdir(parents=True, exist_ok=True)
            (packages / name).write_text(textwrap.dedent(text))
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec "{sys.executable}" {options} "$@"\n')
        python.chmod(0o755)
        return str(python)

    return make


# --- what makes one ---------------------------------------------------------------------------------------------------


def test_a_backend_runs_in_another_environment_and_says_so(tmp_path, interpreter):
    python = interpreter(
        {"sitecustomize.py": "import os\nos.environ.update(OMP_NUM_THREADS='1', UNILOSSSEG_LOOPS='numpy')\n"}
    )
    done = command(tmp_path, "--backend", "numpy", "--backend", "strict", "--worker", f"numpy={python}")
    assert done.exit_code == 0, done.stdout + done.stderr
    header = json.loads((tmp_path / "report" / "results.jsonl").read_text().splitlines()[0])
    there, here = header["backends"]["numpy"], header["backends"]["strict"]
    assert "OMP_NUM_THREADS=1" in there["flags"]
    assert "OMP_NUM_THREADS=1" not in here["flags"]
    for worker in (there, here):
        assert worker["sources"] == environment.sources()
        # Whether or not they are in use.
        assert worker["loop_sources"] == environment.loop_sources()
        assert worker["environment"] == Path(sys.prefix).name
        assert worker["implementation"] == f"{sys.implementation.name} {sys.version.split()[0]}"
        assert worker["unilossseg"] == __version__
        assert any(flag.startswith("kernel_threads=") for flag in worker["flags"])
    assert "kernel_loops=numpy" in there["flags"]
    assert f"kernel_loops={LOOPS}" in here["flags"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert "OMP_NUM_THREADS=1" in page
    assert environment.sources() in page


def test_the_command_that_repeats_a_result_asks_for_its_environment(tmp_path, interpreter):
    python = interpreter()
    done = command(tmp_path, "--backend", "numpy", "--backend", "strict", "--worker", f"numpy={python}")
    assert done.exit_code == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "report" / "results.jsonl").read_text().splitlines()]
    told = {line["backend"]: line["repeat"] for line in lines if line["type"] == "result"}
    assert told["numpy"].endswith("/plain/float32 --out conformance-repeat --backend numpy --worker numpy=PYTHON")
    assert told["strict"].endswith("/plain/float32 --out conformance-repeat --backend strict")
    for path in (tmp_path / "report").iterdir():
        assert python not in path.read_text(), path
    again = shlex.split(told["numpy"].replace("PYTHON", shlex.quote(python)))[1:]
    done = unilossseg(*again, "--out", tmp_path / "again")
    assert done.exit_code == 0, done.stdout + done.stderr


def test_nothing_of_this_environment_goes_along(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    variables = interpreters.environment_of_workers("python")
    assert not {"PYTHONPATH", "PYTHONHOME"} & set(variables)
    assert variables["PYTHONSAFEPATH"] == "1"
    assert variables["PATH"] == os.environ["PATH"]
    assert interpreters.environment_of_workers(None) == os.environ


@pytest.mark.parametrize("printed", ["hello from site\n", "loading ...", '{"level": "info"}\n', "[" * 100_000 + "\n"])
def test_what_an_environment_prints_at_its_start_is_passed_over(tmp_path, interpreter, printed):
    # In the worker, and in the question that comes before it.
    python = interpreter({"sitecustomize.py": f"import os\nos.write(1, {printed.encode()!r})\n"})
    done = command(tmp_path, "--backend", "numpy", "--worker", f"numpy={python}")
    assert done.exit_code == 0, done.stdout + done.stderr


def only_in_the_worker(code):
    return {"sitecustomize.py": "import os, sys\nif 'unilossseg.conformance.worker' in sys.orig_argv:\n    " + code}


def failure_of(tmp_path, python):
    """What is said of a worker that never greets."""
    with pool.Worker("numpy", tmp_path, python) as worker, pytest.raises(pool.WorkerError) as raised:
        worker.greeting()
    assert worker.process.poll() is not None
    return str(raised.value)


@pytest.mark.parametrize("printed", ["for ever\n", "for ever", '{"for": "ever"}\n'])
def test_a_worker_that_prints_for_ever_is_ended(tmp_path, interpreter, monkeypatch, printed):
    monkeypatch.setattr(pool, "STARTUP_SECONDS", 0.5)
    python = interpreter(only_in_the_worker(f"while True: os.write(1, {printed.encode()!r})"))
    said = failure_of(tmp_path, python)
    assert said.startswith("the numpy worker did not start within 0.5 s; it printed '")
    assert "ever" in said


def test_a_worker_that_prints_and_ends_is_reported_with_what_it_printed(tmp_path, interpreter):
    python = interpreter(only_in_the_worker("os.write(1, b'no such device\\n'); os._exit(3)"))
    assert failure_of(tmp_path, python) == "the numpy worker ended with exit status 3; it printed 'no such device'"


def test_what_is_no_message_after_the_greeting_is_an_error():
    stdout = io.StringIO('hello\n{"number": 0}\n\n{"protocol": 2}\nhello\n[]\n{"number": 1}\n')
    heard = replies.Heard(stdout, ("protocol",))
    assert list(heard) == [{"protocol": 2}, "hello\n", "[]\n", {"number": 1}]
    assert heard.printed == ""


def test_a_backend_of_another_environment_need_not_be_installed_here(monkeypatch):
    monkeypatch.setattr(cli, "installed_backends", lambda: ["numpy"])
    monkeypatch.setattr(cli, "is_installed", lambda name: name == "numpy")
    assert cli._backends(None, {"paddle": "python"}) == ["numpy", "paddle"]
    assert cli._backends(["paddle"], {"paddle": "python"}) == ["paddle"]


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(out, *arguments):
    done = command(out, *arguments)
    assert done.exit_code == 2, done.stdout + done.stderr
    assert not (out / "report" / "results.jsonl").exists()
    return done.stderr


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        ("numpy", "--worker must be NAME=PYTHON with a NAME of numpy, strict, torch, paddle (got 'numpy')"),
        ("jax=python", "(got 'jax=python')"),
        ("numpy=", "(got 'numpy=')"),
        ("numpy=/no/such/python", "--worker numpy: /no/such/python is not a program that can be run"),
        ("numpy=echo", "is no Python, or a broken one"),
        ("numpy=true", "is no Python, or a broken one"),
    ],
)
def test_a_worker_that_is_none(tmp_path, worker, said):
    assert said in refused(tmp_path, "--backend", "numpy", "--worker", worker)


def test_a_worker_that_nobody_asks(tmp_path):
    said = refused(tmp_path, "--backend", "numpy", "--worker", f"strict={sys.executable}")
    assert "--worker strict is of no use without --backend strict" in said


def test_two_workers_of_one_backend(tmp_path):
    twice = ["--worker", f"numpy={sys.executable}", "--worker", f"numpy={sys.executable}"]
    assert "--worker names numpy twice" in refused(tmp_path, "--backend", "numpy", *twice)


def test_an_environment_without_the_package(tmp_path, interpreter):
    python = interpreter(options="-S")
    said = refused(tmp_path, "--backend", "torch", "--worker", f"torch={python}")
    assert f"{python} has no unilossseg: install the same version there: " in said
    assert f"{python} -m pip install 'unilossseg[torch]=={__version__}'" in said


def test_an_environment_without_the_framework(tmp_path, interpreter):
    code = """
        import importlib.util
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name: None if name == "paddle" else find(name)
    """
    python = interpreter({"sitecustomize.py": code})
    said = refused(tmp_path, "--backend", "paddle", "--worker", f"paddle={python}")
    assert f"{python} has no paddle: {python} -m pip install 'unilossseg[paddle]'" in said


def test_another_version_of_the_package(tmp_path, interpreter):
    metadata = "Metadata-Version: 2.1\nName: unilossseg\nVersion: 99.0\n"
    python = interpreter({"unilossseg-99.0.dist-info/METADATA": metadata})
    said = refused(tmp_path, "--backend", "numpy", "--worker", f"numpy={python}")
    assert f"{python} has unilossseg 99.0 and this is {__version__}: install the same version there" in said


def test_the_same_version_with_other_files(tmp_path, interpreter):
    code = """
        import sys
        if "unilossseg.conformance.worker" in sys.orig_argv:
            from unilossseg.conformance import environment
            environment.sources = lambda: "others"
    """
    python = interpreter({"sitecustomize.py": code})
    said = refused(tmp_path, "--backend", "numpy", "--worker", f"numpy={python}")
    assert f"the numpy worker is refused: {python} has other files of unilossseg {__version__} than this" in said
    assert f"Install the same version there: {python} -m pip install" in said


def test_other_files_in_this_environment(tmp_path, monkeypatch):
    code = """
        import sys
        if "unilossseg.conformance.worker" in sys.orig_argv:
            from unilossseg.conformance import environment
            environment.sources = lambda: "others"
    """
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = refused(tmp_path, "--backend", "numpy")
    assert f"a worker of {sys.executable} has other files of unilossseg {__version__} than this" in said
    assert "Start the command where no other unilossseg lies in the current folder or on PYTHONPATH" in said


@pytest.mark.parametrize(
    ("here", "there", "refused"),
    [
        ("0123", "0123", False),
        ("0123", "4567", True),
        ("0123", "unknown", True),
        ("unknown", "unknown", False),
        # NumPy does the loops' work.
        ("0123", "none", False),
        ("none", "0123", False),
    ],
)
def test_loops_that_were_compiled_from_other_files(monkeypatch, here, there, refused):
    monkeypatch.setattr(interpreters, "loop_sources", lambda: here)
    greeting = {"unilossseg": __version__, "sources": environment.sources(), "loop_sources": there}
    said = interpreters.disagreement(greeting, "/other/python")
    assert bool(said) == refused
    assert (f"/other/python has other compiled loops in unilossseg {__version__} than this" in said) == refused


def test_loops_say_what_they_were_compiled_from_or_that_there_are_none(monkeypatch):
    asked = environment.loop_sources
    for module, said in (
        (SimpleNamespace(SOURCES="0123"), "0123"),
        (SimpleNamespace(), "unknown"),
        (None, "none"),  # its import fails
    ):
        monkeypatch.setitem(sys.modules, "unilossseg.backends._loops", module)
        assert asked() == said


def test_the_files_of_every_worker_count(monkeypatch):
    seen = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: seen.append(path) or read_bytes(path))
    environment.sources.__wrapped__()
    for name in ("worker.py", "frameworks.py", "parity/worker.py", "parity/training.py"):
        assert Path(environment.__file__).parent / name in seen


COMPATIBLE = """
    import importlib.machinery, sys, types

    class Proxy(types.ModuleType):
        pass

    paddle = types.ModuleType("paddle")
    torch = Proxy("torch")
    torch.__dict__.update(_original_module=paddle, __file__="/lib/paddle/__init__.py", __version__="3.3.1")
    torch.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    sys.modules["torch"] = torch
"""


def test_a_torch_that_is_paddle(tmp_path, interpreter):
    python = interpreter({"sitecustomize.py": COMPATIBLE})
    said = refused(tmp_path, "--backend", "torch", "--worker", f"torch={python}")
    assert "the torch worker is refused: `import torch` gives paddle 3.3.1, not torch" in said
    assert "paddle.enable_compat()" in said


def test_a_folder_called_torch(tmp_path, interpreter):
    python = interpreter({"torch/__init__.py": "__version__ = '2.0'\n"})
    said = refused(tmp_path, "--backend", "torch", "--worker", f"torch={python}")
    assert "`import torch` gives something else of that name, from " in said


def test_a_framework_of_this_environment_is_looked_at_too(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(COMPATIBLE))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(cli, "is_installed", lambda name: True)
    assert "`import torch` gives paddle" in refused(tmp_path, "--backend", "torch")


def test_the_frameworks_here_are_what_they_say():
    assert environment.impostor("numpy") == ""
    assert environment.impostor("strict") == ""


# --- the command for all of it ----------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_keeps_the_frameworks_apart():
    folder = Path(__file__).parents[1]
    plan = subprocess.run(
        ["make", "--dry-run", "--always-make", "conformance-isolated"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    installs = [line for line in plan.replace("\\\n", "").splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in line for line in installs)
    assert ["torch" in line.partition("--editable")[2] for line in installs] == [True, False]
    assert ["paddle" in line.partition("--editable")[2] for line in installs] == [False, True]
    assert "--worker torch=.venv-torch/bin/python --worker paddle=.venv-paddle/bin/python" in plan
