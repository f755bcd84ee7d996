"""Which Paddle this is."""

from __future__ import annotations

import paddle

VERSION = tuple(int(part) for part in paddle.__version__.split(".")[:2])
# Paddle 2 has no kernels for arrays without elements, and loses NaN in max and min.
OLD = VERSION < (3, 0)
