"""A worker that plants a defect for the time of one request and takes it out again before it answers."""

from __future__ import annotations

import sys
from typing import Any

from unilossseg.conformance import worker


def answer(framework: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The case with the request's defect in the code; without one, as any worker computes it."""
    from unilossseg.conformance.defects import DEFECTS, PlantingError, planted

    name = request.get("defect")
    if name is None:
        return worker._answer(framework, request)
    try:
        with planted(DEFECTS[name]):
            return worker._answer(framework, request)
    except PlantingError as error:
        return {"number": request["number"], "outcomes": {}, "planting": str(error)}


if __name__ == "__main__":
    sys.exit(worker.main(answer))
