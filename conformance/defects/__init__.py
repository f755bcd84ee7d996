"""Defects to plant: what the conformance suite must see, or it sees nothing.

A defect is a function that replaces one right thing of the package by one wrong thing, in a worker process and for the
time of one case. `unilossseg conformance selftest` plants them one by one.
"""

from unilossseg.conformance.defects import (
    adapters,
    binary,
    boundaries,
    cross_entropy,
    dice,
    dual_task,
    elements,
    hard_pixels,
    loops,
    lovasz,
    shared,
)
from unilossseg.conformance.defects._patching import Defect as Defect
from unilossseg.conformance.defects._patching import Patches as Patches
from unilossseg.conformance.defects._patching import PlantingError as PlantingError
from unilossseg.conformance.defects._patching import planted as planted
from unilossseg.conformance.defects._patching import registered

# Importing them registers their defects.
_MODULES = (shared, cross_entropy, hard_pixels, dice, lovasz, binary, elements, boundaries, dual_task, adapters, loops)

DEFECTS: dict[str, Defect] = registered()
