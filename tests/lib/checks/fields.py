"""Losses of a user's whose fields may hold layers and parameters of a framework's."""

from dataclasses import dataclass
from typing import Any

import unilossseg


@dataclass(eq=False)
class Scored(unilossseg.Loss):
    """The mean of what a network makes of the logits, times a number."""

    net: Any = None
    scale: Any = 1.0

    def compute(self, ops, logits, labels):
        return ops.xp.mean(logits if self.net is None else self.net(logits)) * self.scale


@dataclass(eq=False)
class Needing(unilossseg.Loss):
    """Without a default."""

    net: Any
    scale: Any

    def compute(self, ops, logits, labels):
        return ops.xp.mean(self.net(logits)) * self.scale
