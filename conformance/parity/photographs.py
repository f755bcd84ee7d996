"""The pictures that the network learns from: crops of scikit-image's coins and horse, with masks made of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from unilossseg.conformance.cases import Array

BACKGROUND, COIN, HORSE = 0, 1, 2
CLASSES = 3
IGNORED = 255
SIDE = 64
BATCHES = 4
#: Crops of each photograph in a batch.
EACH = 2
#: A crop has at least this share of background and of its object.
LEAST = 0.2


@dataclass(frozen=True)
class Photographs:
    """Batches of crops, the same in every framework; numbers that float32 holds exactly."""

    #: (batches, N, 1, H, W), float32, intensities in [0, 1].
    images: Array
    #: (batches, N, H, W), int64: a class, or `IGNORED` along the objects' outlines.
    labels: Array
    #: (batches, N, 1, H, W), float32: how steep the picture is; half of all pixels exceed 0.8, the losses' threshold.
    edges: Array

    @property
    def digest(self) -> str:
        """SHA-256 of all of them, to tell whether two records are about the same pictures."""
        said = hashlib.sha256()
        for array in (self.images, self.labels, self.edges):
            said.update(np.ascontiguousarray(array).tobytes())
        return said.hexdigest()


def photographs() -> Photographs:
    """Cuts the crops; the same every time."""
    from skimage import filters

    pictures = (_coins(), _horse())
    # Draws of RandomState are the same in every release of NumPy.
    draw = np.random.RandomState(0)
    edges = [filters.sobel(filters.gaussian(image, 1)) for image, _ in pictures]
    crops = []
    for _ in range(BATCHES):
        for (image, labels), steep in zip(pictures, edges, strict=True):
            for rows, columns in _places(labels, draw):
                crops.append((image[rows, columns], labels[rows, columns], steep[rows, columns]))
    images, labels, steep = (np.stack(part).reshape(BATCHES, 2 * EACH, SIDE, SIDE) for part in zip(*crops, strict=True))
    steep = 0.8 * steep / np.median(steep)
    return Photographs(
        images.astype(np.float32)[:, :, None], labels.astype(np.int64), np.asarray(steep, np.float32)[:, :, None]
    )


def _coins() -> tuple[Array, Array]:
    """Coins are brighter than what is around them: Otsu's threshold, after smoothing and without the uneven light."""
    from skimage import data, filters

    image = data.coins() / 255.0
    even = filters.gaussian(image, 2) - filters.gaussian(image, 40)
    return image, _outlined(np.where(even > filters.threshold_otsu(even), COIN, BACKGROUND))


def _horse() -> tuple[Array, Array]:
    """A black silhouette on white, half its size, with grain.

    Without the grain the network would see the same patch a thousand times. Its outputs there are equal but for the last
    bit, which depends on how a framework blocks its loops, and a loss that ranks pixels would rank them by that bit.
    """
    from skimage import data

    light = data.horse().astype(np.float64)
    light = light.reshape(light.shape[0] // 2, 2, light.shape[1] // 2, 2).mean(axis=(1, 3))
    grain = np.random.RandomState(1).standard_normal(light.shape)
    return np.clip(0.3 + 0.4 * light + 0.05 * grain, 0, 1), _outlined(np.where(light < 0.5, HORSE, BACKGROUND))


def _outlined(labels: Array) -> Array:
    """Labels with the pixels on both sides of an outline ignored, as data sets have them."""
    around = np.pad(labels, 1, mode="edge")
    height, width = labels.shape
    outline = np.zeros(labels.shape, bool)
    for down in range(3):
        for right in range(3):
            outline |= around[down : down + height, right : right + width] != labels
    return np.where(outline, IGNORED, labels)


def _places(labels: Array, draw: np.random.RandomState) -> list[tuple[slice, slice]]:
    """Where to cut so that each crop shows enough of both classes."""
    places: list[tuple[slice, slice]] = []
    while len(places) < EACH:
        top, left = (int(draw.randint(0, length - SIDE + 1)) for length in labels.shape)
        rows, columns = slice(top, top + SIDE), slice(left, left + SIDE)
        crop = labels[rows, columns]
        objects = np.mean((crop != BACKGROUND) & (crop != IGNORED))
        if min(objects, np.mean(crop == BACKGROUND)) >= LEAST:
            places.append((rows, columns))
    return places
