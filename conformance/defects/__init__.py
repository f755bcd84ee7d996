"""Defects to plant: what the conformance suite must see, or it sees nothing.

A defect is a function that replaces one right thing of the package by one wrong thing, in a worker process and for the
time of one case. `unilossseg conformance selftest` plants them one by one.
"""

import importlib
import pkgutil

from unilossseg.conformance.defects._patching import Defect as Defect
from unilossseg.conformance.defects._patching import Patches as Patches
from unilossseg.conformance.defects._patching import PlantingError as PlantingError
from unilossseg.conformance.defects._patching import planted as planted
from unilossseg.conformance.defects._patching import registered

# The self-test's command and worker import what is found here; files with an underscore hold tools.
_WITHOUT = ("command", "worker")
for _file in pkgutil.iter_modules(__path__):
    if not _file.name.startswith("_") and _file.name not in _WITHOUT:
        # Importing a file registers its defects.
        importlib.import_module(f"{__name__}.{_file.name}")

DEFECTS: dict[str, Defect] = registered()
