"""What a picture looks like as a vector: near for near-duplicates, far for different pictures.

The features are those of MPEG-7's colour layout and edge histogram descriptors (ISO/IEC 15938-3):
low frequencies of light and colour, and edge directions on a coarse grid.
"""

from __future__ import annotations

import functools
import hashlib
import math

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""``SIDE`` x ``SIDE`` x 3, red, green and blue: every picture and frame is scaled to this."""

Vector = NDArray[np.float64]

SIDE = 64
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

_GRID = 4  # cells per side of the edge histogram
_DIRECTIONS = 8
_LIGHT_FREQUENCIES = 8
_COLOUR_FREQUENCIES = 4
_TONE_WEIGHT = 0.35
_NOISE = 0.5  # a block much weaker than this is compression noise and must not be blown up


def _cosines(count: int) -> Vector:
    """Return the first rows of the orthonormal DCT-II matrix."""
    waves = np.cos(np.pi / SIDE * np.outer(np.arange(count), np.arange(SIDE) + 0.5))
    waves[0] /= math.sqrt(2)
    return waves * math.sqrt(2 / SIDE)


def _bilinear_weights() -> Vector:
    """Return how much each pixel row counts for each grid row: bilinear, so crops shift little."""
    centres = (np.arange(SIDE) + 0.5) / SIDE * _GRID - 0.5
    return np.maximum(0.0, 1.0 - np.abs(centres - np.arange(_GRID)[:, None]))


_LIGHT = _cosines(_LIGHT_FREQUENCIES)
_COLOUR = _cosines(_COLOUR_FREQUENCIES)
_CELLS = _bilinear_weights()
# Natural pictures have most energy in the lowest frequencies, where all of them look alike.
_WHITENING = np.sqrt(np.add.outer(np.arange(_LIGHT_FREQUENCIES), np.arange(_LIGHT_FREQUENCIES)))


def compute_descriptor(pixels: Pixels) -> Vector:
    """Return a unit vector of what the picture looks like; compare two by their dot product.

    Near-duplicates (another encoding, size or brightness, a small crop) score above 0.9,
    different pictures mostly below 0.5.
    """
    rgb = pixels / 255.0
    luma = rgb @ LUMA
    tone = np.pi * luma.mean()  # a point on a half circle: black and white are opposite
    blocks = (
        _damped(_LIGHT @ luma @ _LIGHT.T * _WHITENING),
        _damped(_edges(luma)),
        _damped(np.stack([_COLOUR @ (rgb[..., i] - luma) @ _COLOUR.T for i in (0, 2)])),
        _TONE_WEIGHT * np.array([np.cos(tone), np.sin(tone)]),
    )
    return _unit(np.concatenate(blocks))


def _edges(luma: Vector) -> Vector:
    """Return a mean-centred histogram of edge directions for each cell of the grid."""
    down, right = np.gradient(luma)
    direction = np.arctan2(down, right) * _DIRECTIONS / np.pi  # modulo half a turn
    bins = np.arange(_DIRECTIONS)[:, None, None]
    half = _DIRECTIONS / 2
    distance = np.abs((direction - bins + half) % _DIRECTIONS - half)
    votes = np.hypot(down, right) * np.maximum(0.0, 1.0 - distance)
    histogram: Vector = np.sqrt(_CELLS @ votes @ _CELLS.T)
    return histogram - float(histogram.mean())


def _damped(block: Vector) -> Vector:
    """Return the block flattened, of nearly unit length unless it is hardly there."""
    return (block / (np.linalg.norm(block) + _NOISE)).ravel()


def _unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)


def embedding(vector: Vector, model: str, length: int) -> list[float]:
    """Return the descriptor as a unit vector of another length, its cosines nearly kept.

    A random projection (Johnson-Lindenstrauss, with Achlioptas' signs): each model has its own.
    """
    projected = _unit(_signs(model, length, vector.size) @ vector)
    return [float(value) for value in projected.round(8)]


@functools.cache
def _signs(model: str, rows: int, columns: int) -> Vector:
    # Bits of a hash, not of a random generator: the same on every platform and NumPy version.
    stream = hashlib.shake_256(model.encode()).digest((rows * columns + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, dtype=np.uint8), count=rows * columns)
    return bits.reshape(rows, columns).astype(np.float64) * 2 - 1
