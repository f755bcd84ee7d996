"""Image-segmentation losses, written once against the Array API standard."""

from unilossseg._version import __version__ as __version__
