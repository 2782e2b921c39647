"""A single-stroke font and hands that write in it: text -> pen trajectory.

A glyph is made of strokes, a stroke of points "xy" in hexadecimal digits: x to the right, y upwards, the baseline at 4,
the height of an x at 9, ascenders up to d, descenders down to 0. A smooth curve leads through the points; a point given
twice is a corner.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

BASELINE, SPACE, GAP = 4, 4, 2  # of a line; width of a space; between two glyphs
PER_SEGMENT = 8  # points by which a curve between two of a glyph's is approximated

GLYPHS = {
    "a": ["58 39 18 06 14 34 56 59 59 55 64"],
    "b": ["0d 04 04 06 29 48 56 44 24 05"],
    "c": ["58 39 18 06 14 34 55"],
    "d": ["58 39 18 06 14 34 56 5d 5d 55 64"],
    "e": ["07 57 57 48 29 18 06 14 34 55"],
    "f": ["5c 4d 2c 2a 24", "09 49"],
    "g": ["58 39 18 06 15 35 57 59 59 52 30 11"],
    "h": ["0d 04 04 07 29 48 47 44"],
    "i": ["09 05 14", "0b 0c"],
    "j": ["29 22 10 01", "2b 2c"],
    "k": ["0d 04", "49 06 06 44"],
    "l": ["0d 05 14 25"],
    "m": ["09 04 04 07 19 38 37 34 34 37 49 68 67 64"],
    "n": ["09 04 04 07 29 48 47 44"],
    "o": ["39 18 06 14 34 56 58 39"],
    "p": ["09 00 00 07 29 48 56 44 24 05"],
    "q": ["58 39 18 06 15 35 57 59 59 50 61"],
    "r": ["09 04 04 07 19 38"],
    "s": ["48 29 08 17 36 45 24 05"],
    "t": ["2c 25 34 45", "09 49"],
    "u": ["09 05 14 34 46 49 49 45 54"],
    "v": ["09 24 24 49"],
    "w": ["09 14 14 39 39 54 54 79"],
    "x": ["09 44", "49 04"],
    "y": ["09 06 15 35 46 49 49 42 20 01"],
    "z": ["09 49 49 04 04 44"],
    "0": ["3d 1b 08 15 34 55 68 5b 3d"],
    "1": ["1b 3d 3d 34"],
    "2": ["0b 2d 4b 38 04 04 54"],
    "3": ["0c 2d 4b 29 29 47 45 24 05"],
    "4": ["3d 07 07 57", "4a 44"],
    "5": ["4d 0d 0d 09 09 2a 47 45 24 05"],
    "6": ["4d 1a 06 14 34 46 38 18 06"],
    "7": ["0d 4d 4d 14"],
    "8": ["29 0b 2d 4b 29 06 24 46 29"],
    "9": ["4b 2d 0b 19 39 4b 4b 34"],
    ".": ["04 05"],
    ",": ["15 03"],
    ":": ["04 05", "08 09"],
    ";": ["15 03", "18 19"],
    "'": ["0d 0b"],
    '"': ["0d 0b", "2d 2b"],
    "`": ["0d 1b"],
    "(": ["2d 0a 06 22"],
    ")": ["0d 2a 26 02"],
    "[": ["2d 0d 0d 02 02 22"],
    "]": ["0d 2d 2d 22 22 02"],
    "-": ["07 37"],
    "_": ["03 53"],
    "=": ["06 46", "09 49"],
    "+": ["07 47", "29 25"],
    "*": ["29 25", "08 46", "06 48"],
    "/": ["03 4d"],
    "|": ["0d 03"],
    "<": ["4a 07 07 44"],
    ">": ["0a 47 47 04"],
    "!": ["0d 07", "04 05"],
    "?": ["0b 2d 4b 28 27", "24 25"],
}


class Hand(NamedTuple):
    """How a line is written. Lengths are in units of the glyphs' grid."""

    slant: float  # how far a unit of height moves a point to the right
    size: float  # factor on all lengths
    climb: float  # how far a unit to the right moves a point upwards
    spacing: float  # between two points of a stroke, before `size`
    unsteadiness: float  # standard deviation of a glyph's points around the font's
    tremor: float  # standard deviation of every point that is written

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Hand":
        slant, size, climb, spacing, unsteadiness, tremor = rng.normal(size=6)
        return cls(
            slant=0.1 + 0.2 * slant,
            size=np.exp(0.2 * size),
            climb=0.02 * climb,
            spacing=1.6 * np.exp(0.1 * spacing),
            unsteadiness=0.25 * np.exp(0.2 * unsteadiness),
            tremor=0.06 * np.exp(0.2 * tremor),
        )


def can_write(text: str) -> bool:
    return all(character == " " or character in GLYPHS for character in text)


def write(text: str, hand: Hand, rng: np.random.Generator) -> np.ndarray:
    """Return the steps (points, 3) of a line: dx, dy downwards, pen up after the point. The first is 0, 0.

    Raises KeyError for a character that the font lacks.
    """
    points, pen, left = [], [], 0.0
    for character in text:
        if character == " ":
            left += SPACE
            continue
        for corners, curve in _glyph(character):
            moved = corners + hand.unsteadiness * rng.normal(size=corners.shape)
            stroke = _evenly(curve @ moved, hand.spacing)
            stroke[:, 0] += left
            points.append(stroke)
            pen.append(np.arange(len(stroke)) == len(stroke) - 1)
        left += _width(character) + GAP
    x, y = (np.concatenate(points) + hand.tremor * rng.normal(size=(sum(map(len, points)), 2))).T
    y = y - BASELINE
    positions = hand.size * np.stack((x + hand.slant * y, -(y + hand.climb * x)), 1)
    steps = np.diff(positions, axis=0, prepend=positions[:1])
    return np.column_stack((steps, np.concatenate(pen))).astype(np.float32)


def _evenly(path: np.ndarray, spacing: float) -> np.ndarray:
    """Return points at about equal distances along a path (points, 2), its two ends among them."""
    along = np.concatenate(([0.0], np.hypot(*np.diff(path, axis=0).T).cumsum()))
    at = np.linspace(0.0, along[-1], max(1, round(along[-1] / spacing)) + 1)
    return np.stack([np.interp(at, along, axis) for axis in path.T], 1)


def _width(character: str) -> float:
    return max(corners[:, 0].max() for corners, _ in _glyph(character))


@functools.cache
def _glyph(character: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each stroke's points (k, 2), and the matrix (n, k) that makes a path of them."""
    strokes = []
    for stroke in GLYPHS[character]:
        names = stroke.split()
        ends = [0, *(i for i in range(1, len(names)) if names[i] == names[i - 1]), len(names)]
        pieces = [names[start:stop] for start, stop in itertools.pairwise(ends)]
        names = [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]
        corners = np.array([[int(name[0], 16), int(name[1], 16)] for name in names], float)
        curve, first = [], 0
        for piece in pieces:
            columns = np.zeros((len(names), len(piece)))
            columns[range(first, first + len(piece)), range(len(piece))] = 1
            curve.append(_smooth(len(piece)) @ columns.T)
            first += len(piece) - 1
        strokes.append((corners, np.concatenate(curve)))
    return strokes


def _smooth(k: int) -> np.ndarray:
    """Return the matrix (n, k) of a Catmull-Rom spline through k points."""
    identity = np.eye(k)
    rows = []
    for i in range(k - 1):
        before, after = max(i - 1, 0), min(i + 2, k - 1)
        for s in np.arange(PER_SEGMENT) / PER_SEGMENT:
            weights = (
                ((-s + 2 * s**2 - s**3) / 2, before),
                ((2 - 5 * s**2 + 3 * s**3) / 2, i),
                ((s + 4 * s**2 - 3 * s**3) / 2, i + 1),
                ((s**3 - s**2) / 2, after),
            )
            rows.append(sum(weight * identity[point] for weight, point in weights))
    return np.stack([*rows, identity[-1]])
