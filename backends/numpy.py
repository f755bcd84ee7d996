"""NumPy's backend: with compiled loops where the installation has them, and a word where it has not."""

from __future__ import annotations

import importlib
import os
import warnings

import array_api_compat.numpy as xp

from unilossseg.backends._numpy import NumPyBackend as NumPyBackend

#: 'numpy' leaves the compiled loops aside; the name of an instruction set takes those compiled for it; unset: the fastest.
VARIABLE = "UNILOSSSEG_LOOPS"


def _chosen() -> tuple[NumPyBackend, str]:
    """The backend, and what its loops are compiled for; 'numpy' for none."""
    wanted = os.environ.get(VARIABLE) or None
    if wanted == "numpy":
        return NumPyBackend("numpy", xp), wanted
    try:
        loops = importlib.import_module("unilossseg.backends._loops")
    except ImportError as error:
        if wanted is not None:
            raise ImportError(f"{VARIABLE} is {wanted!r} and this installation has no compiled loops: {error}") from error
        warnings.warn(
            f"UniLossSeg has no compiled loops here ({error}): NumPy does their work, and losses on the CPU take "
            "several times as long. Install a wheel for this platform; or a C compiler, and then this package again with "
            f"`pip install --force-reinstall --no-deps --no-cache-dir`. {VARIABLE}=numpy says that this is meant",
            RuntimeWarning,
            stacklevel=2,
        )
        return NumPyBackend("numpy", xp), "numpy"
    names = loops.instruction_sets()
    if wanted is not None and wanted not in names:
        raise ValueError(f"{VARIABLE} is {wanted!r}, expected 'numpy' or one of those of this processor: {', '.join(names)}")
    loops.use(wanted or names[0])
    compiled = importlib.import_module("unilossseg.backends._compiled")
    return compiled.CompiledBackend("numpy", xp), wanted or names[0]


BACKEND, LOOPS = _chosen()
