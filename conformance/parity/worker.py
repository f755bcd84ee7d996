"""The worker: trains in one framework, in a process of its own.

Run as `python -m unilossseg.conformance.parity.worker --backend torch --folder DIR`, by any Python that has this package and
the framework. It reads `job.json` and `inputs.npz` in the folder, reports in JSON lines and leaves `<backend>-<dtype>.npz`.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import traceback
from pathlib import Path
from typing import TextIO

import numpy as np

import unilossseg
from unilossseg.backends import BackendNotInstalledError, get_backend
from unilossseg.conformance import environment
from unilossseg.conformance.replies import own_stdout, say


def main() -> int:
    """Trains as the job says; 0 if it came to an end."""
    parser = argparse.ArgumentParser(description="trains a network for unilossseg train-parity")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    arguments = parser.parse_args()
    with own_stdout() as replies:
        try:
            _work(arguments.backend, arguments.folder, replies)
        except BackendNotInstalledError as error:
            say(replies, {"absent": str(error)})
        except Exception:
            say(replies, {"failed": traceback.format_exc()})
        else:
            return 0
    return 1


def _work(backend: str, folder: Path, replies: TextIO) -> None:
    get_backend(backend)
    from unilossseg.conformance.parity.training import Trainer

    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    with np.load(folder / "inputs.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    trainer = Trainer(backend, job["config"])
    greeting = {
        **trainer.framework.describe(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "unilossseg": unilossseg.__version__,
        **environment.package(),
    }
    say(replies, {"ready": greeting})
    for dtype in job["dtypes"]:
        trained = trainer.train(job, arrays, dtype, lambda loss: say(replies, {"loss": loss}))
        parts = {"gradient": trained.gradients, "parameter": trained.parameters}
        named = {f"{part}/{name}": array for part, those in parts.items() for name, array in those.items()}
        with (folder / f"{backend}-{dtype}.npz").open("wb") as result:
            np.savez(result, losses=trained.losses, **named)  # type: ignore[arg-type]
    say(replies, {"done": True})


if __name__ == "__main__":
    sys.exit(main())
