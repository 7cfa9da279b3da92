"""Draw synthetic microscopy images of nuclei with per-nucleus truth, for tests and for data/.

    python data/synthetic.py                                        write the shipped set again
    python data/synthetic.py --out /tmp/more --num 200 --seed 7     write a larger set elsewhere

The shipped set is data/raw, data/gt, test_raw and data/test_gt. In a test:

    image, labels = draw("fluorescence", 128, 96, num_nuclei=8, diameter=18, seed=3, touching=0.5)

The same seed gives the same pixels everywhere. The generator is NumPy's `RandomState`, whose stream
never changes (that of `default_rng` may). All arithmetic is float64: the last bit of a processor's
cosine does not survive the rounding to a grey level. How many numbers are drawn never depends on a
rounded pixel.

The pictures are plausible, not measured. Scores on them say that the program works, not that a
model is good.

Long because the file needs nothing else of the project: any copy of it draws the same set.
"""

import argparse
import functools
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin
from scipy import fft, ndimage

REPOSITORY = Path(__file__).resolve().parent.parent
SEED = 0
NUM_PAIRS = 32  # few enough that a training of two minutes sees each of them often
PAIRS_PER_TEST_IMAGE = 4
FLUORESCENCE_SHARE = 9 / 16  # both kinds are frequent enough to be learned from 32 pairs

KINDS = ("fluorescence", "tissue", "brightfield")
MIN_AREA_PX = 20  # a smaller nucleus could not be told from a speck
MAX_COVERED = 0.25  # share of the smaller of two overlapping nuclei; more would make truth a guess
NUM_TRIES = 30  # places tried for one nucleus before the picture counts as full
APART_PX = 3.5  # free pixels around a nucleus that is not put against another
COVERAGE = {"fluorescence": 0.16, "tissue": 0.24, "brightfield": 0.10}  # share of nucleus pixels

# Optical density per unit of stain in red, green and blue, each of length one, of two laboratories:
# Ruifrok & Johnston 2001 (rgb_from_hed of scikit-image) and Macenko et al. 2009.
HAEMATOXYLIN = np.array([[0.65, 0.70, 0.29], [0.5626, 0.7201, 0.4062]])
EOSIN = np.array([[0.07, 0.99, 0.11], [0.2159, 0.8012, 0.5581]])

# The shipped set goes round these lists. Their lengths share no factor: combinations differ.
SIZES_PX = [(256, 256), (224, 288), (256, 200), (200, 240), (288, 216), (240, 240), (208, 360)]
DIAMETERS_PX = {
    "fluorescence": (16, 26, 11, 38, 20, 13, 30, 18, 45, 14, 23),
    "tissue": (20, 14, 28, 17, 36, 24, 12, 18, 32, 15, 22),
}
TOUCHING = (0.3, 0.6, 0.1, 0.45, 0.75)
SIXTEEN_BIT = {"fluorescence_04", "fluorescence_09"}  # of a 12-bit camera: nearly black unscaled
EMPTY = {"fluorescence_12"}  # background and debris, no nucleus: a valid negative
FOLDERS = ("data/raw", "data/gt", "test_raw", "data/test_gt")
MARK = "tests/synthetic.py"  # text inside each shipped file, by which a run knows files of this set
LEVELS = {"uint8": 255, "uint16": 4095}  # white level by dtype


class Picture(NamedTuple):
    """What to draw.

    Attributes:
        kind: "fluorescence", "tissue" (haematoxylin and eosin) or "brightfield" (grey).
        height: in pixels, 1 or more.
        width: in pixels, 1 or more.
        num_nuclei: the most nuclei; those that find no room are left out. None covers the share of
            the picture that COVERAGE says.
        diameter: of a typical nucleus in pixels; single nuclei differ by up to half.
        seed: an int or a tuple of ints; the same seed gives the same picture.
        touching: share of the nuclei that are put against another, 0...1. With 0, no two nuclei
            touch, not even by a corner.
        dtype: "uint8", or "uint16" for the values of a 12-bit camera (0...4095).
    """

    kind: str
    height: int
    width: int
    num_nuclei: int | None = None
    diameter: float = 16.0
    seed: int | tuple[int, ...] = 0
    touching: float = 0.3
    dtype: str = "uint8"


class Nucleus(NamedTuple):
    """One outline: an ellipse whose radius a short Fourier series changes and that may be bent.

    Attributes:
        row: of the centre, in pixels.
        column: of the centre, in pixels.
        long_px: long half axis.
        short_px: short half axis.
        angle: of the long axis, in radians from the column axis.
        harmonics: (4,) complex, the second to the fifth. The size is a share of the radius, the
            angle is the phase.
        bend: of the long axis.
        look: decides how it is coloured, for example "dark".
    """

    row: float
    column: float
    long_px: float
    short_px: float
    angle: float
    harmonics: np.ndarray
    bend: float
    look: str


class Placed(NamedTuple):
    """One nucleus in a picture: its window, and the relative distance from its centre there."""

    nucleus: Nucleus
    window: tuple[slice, slice]
    distance: np.ndarray


class Scene(NamedTuple):
    """The nuclei of a picture.

    Attributes:
        placed: in the order of their labels.
        labels: (H, W) int32, 0 background, 1...n.
        overlap: (H, W) bool, where a nucleus lies over another.
    """

    placed: list[Placed]
    labels: np.ndarray
    overlap: np.ndarray


# --- Shapes


def new_nucleus(random, centre, diameter, look, aspect, angle, roughness=0.05):
    """Give a place a shape.

    Args:
        random: the generator.
        centre: (row, column).
        diameter: of the circle of equal area, in pixels.
        look: see `Nucleus`.
        aspect: long axis divided by short axis.
        angle: of the long axis, in radians from the column axis.
        roughness: size of the harmonics.
    """
    size = random.normal(size=4) * roughness * 3.0 / np.arange(2, 6) ** 1.5
    harmonics = size * np.exp(1j * random.uniform(0, 2 * np.pi, size=4))
    bend = random.normal() * 0.10
    half = diameter / 2
    long_px, short_px = half * np.sqrt(aspect), half / np.sqrt(aspect)
    return Nucleus(*centre, long_px, short_px, angle, harmonics, bend, look)


def wobble(nucleus, u, v, distance):
    """Relative radius of the outline in the direction of (u, v).

    Powers of a complex number take the place of cosines.
    """
    turn = (u + 1j * v) / np.maximum(distance, 1e-9)
    total = np.zeros_like(turn)
    for harmonic in nucleus.harmonics[::-1]:
        total = (total + harmonic) * turn
    return np.minimum(np.maximum(1 + (total * turn).real, 0.6), 1.25)


def reach_px(nucleus, direction):
    """Distance from the centre to the outline in a direction (radians from the column axis)."""
    u = np.cos(direction - nucleus.angle) / nucleus.long_px
    v = np.sin(direction - nucleus.angle) / nucleus.short_px
    return float(wobble(nucleus, u, v, np.hypot(u, v)) / np.hypot(u, v))


def span(centre, reach, length):
    """The pixels within `reach` of `centre` on an axis of `length` pixels; may be empty."""
    start, stop = int(centre - reach), int(centre + reach) + 2
    return slice(min(max(start, 0), length), min(max(stop, 0), length))


def distance_map(nucleus, height, width, margin_px=4):
    """The relative distance from the centre of a nucleus: below 1 is inside.

    Returns:
        A window around the nucleus (rows slice, columns slice), cut to the picture, and float64 of
        its size.
    """
    cosine, sine = np.cos(nucleus.angle), np.sin(nucleus.angle)
    margin_px = margin_px + abs(nucleus.bend) * nucleus.long_px
    tall = 1.25 * np.hypot(nucleus.long_px * sine, nucleus.short_px * cosine) + margin_px
    wide = 1.25 * np.hypot(nucleus.long_px * cosine, nucleus.short_px * sine) + margin_px
    rows = span(nucleus.row, tall, height)
    columns = span(nucleus.column, wide, width)
    y = np.arange(rows.start, rows.stop)[:, None] - nucleus.row
    x = np.arange(columns.start, columns.stop)[None, :] - nucleus.column
    u = x * (cosine / nucleus.long_px) + y * (sine / nucleus.long_px)
    v = y * (cosine / nucleus.short_px) - x * (sine / nucleus.short_px)
    v = v + nucleus.bend * nucleus.long_px / nucleus.short_px * (u * u - 0.4)
    distance = np.hypot(u, v)
    return (rows, columns), distance / wobble(nucleus, u, v, distance)


# --- Noise


def pick(random, choices):
    """One of a list. Not by `randint`, whose integers differ in width between platforms."""
    return choices[int(random.uniform() * len(choices))]


def smooth_noise(random, height, width, grain_px):
    """Gaussian noise of unit variance without structure much finer than `grain_px`.

    Args:
        random: the generator.
        height: in pixels.
        width: in pixels.
        grain_px: a number, or one for each axis.
    """
    grain = np.broadcast_to(np.asarray(grain_px, dtype=float), 2)
    weights = []
    for length, step in zip((height, width), grain, strict=True):
        position = np.arange(length) / step + 1
        knots = np.arange(int(position[-1]) + 3)
        distance = np.abs(position[:, None] - knots)
        inner = 2 / 3 - distance * distance * (1 - distance / 2)
        outer = np.maximum(2 - distance, 0)
        outer = outer * outer * outer / 6
        spline = np.where(distance < 1, inner, outer)  # cubic B-spline
        weights.append(spline / np.sqrt((spline**2).sum(axis=1, keepdims=True)))
    grid = random.normal(size=(weights[0].shape[1], weights[1].shape[1]))
    return weights[0] @ grid @ weights[1].T


def fibre_noise(random, across, along, short_px, long_px):
    """Noise along curved lines, of unit variance.

    Args:
        random: the generator.
        across: (H, W) position across the lines, in pixels.
        along: (H, W) position along the lines, in pixels.
        short_px: size of its structure across the lines.
        long_px: size of its structure along the lines.
    """
    table = ndimage.gaussian_filter(random.normal(size=(64, 64)), 0.8, mode="wrap")
    positions = [across / short_px * 1.5, along / long_px * 1.5]
    return ndimage.map_coordinates(table / table.std(), positions, order=1, mode="grid-wrap")


def other_place(field, shape, shift):
    """A window of `shape` of a field of noise, so that neighbours do not share one pattern."""
    row = int(shift[0] * (field.shape[0] - shape[0] + 1))
    column = int(shift[1] * (field.shape[1] - shape[1] + 1))
    return field[row : row + shape[0], column : column + shape[1]]


def holes(nucleus, window, offsets, radius_px, strength):
    """A factor of 1 that is lower in round spots, the nucleoli (higher for negative strength)."""
    y = np.arange(window[0].start, window[0].stop)[:, None] - nucleus.row
    x = np.arange(window[1].start, window[1].stop)[None, :] - nucleus.column
    factor = np.ones((y.size, x.size))
    for row, column in offsets:
        factor -= strength * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * radius_px**2))
    return factor


# --- Places


def place(random, propose, num_nuclei, touching, allowed):
    """Put nuclei into a picture one after the other; where two overlap, the later lies on top.

    Args:
        random: the generator.
        propose: a function (random) -> Nucleus, with a place and a shape that suit the tissue.
        num_nuclei: the most nuclei.
        touching: share of the nuclei that are put against an earlier one. The others keep apart.
        allowed: (H, W) bool, where a centre may lie.
    """
    height, width = allowed.shape
    scene = Scene([], np.zeros((height, width), np.int32), np.zeros((height, width), bool))
    near = np.zeros((height, width), dtype=bool)
    for _ in range(num_nuclei):
        against = bool(scene.placed) and random.uniform() < touching
        for _ in range(NUM_TRIES):
            nucleus = propose(random)
            if against:
                nucleus = put_against(random, nucleus, pick(random, scene.placed).nucleus)
            row, column = int(np.floor(nucleus.row)), int(np.floor(nucleus.column))
            if not (0 <= row < height and 0 <= column < width and allowed[row, column]):
                continue
            window, distance = distance_map(nucleus, height, width)
            inside = distance < 1
            area = inside.sum()
            if area < MIN_AREA_PX or (inside & ~allowed[window]).sum() > 0.1 * area:
                continue
            if not against and near[window][inside].any():
                continue
            is_one_piece = ndimage.label(inside)[1] == 1
            if not is_one_piece or (against and not fits(scene, window, inside)):
                continue
            scene.placed.append(Placed(nucleus, window, distance))
            scene.overlap[window] |= inside & (scene.labels[window] > 0)
            scene.labels[window][inside] = len(scene.placed)
            near[window] |= distance < 1 + APART_PX / nucleus.short_px
            break
    return scene


def put_against(random, nucleus, anchor):
    """Move a nucleus so that it overlaps the border of `anchor` a little, turned as that is."""
    nucleus = nucleus._replace(angle=anchor.angle + random.normal() * 0.5, look=anchor.look)
    direction = random.uniform(0, 2 * np.pi)
    distance = reach_px(anchor, direction) + reach_px(nucleus, direction + np.pi)
    distance *= random.uniform(0.82, 0.97)
    return nucleus._replace(
        row=anchor.row + distance * np.sin(direction),
        column=anchor.column + distance * np.cos(direction),
    )


def fits(scene, window, inside):
    """Whether a nucleus may lie over others: it hides little of each and cuts none in two."""
    under = scene.labels[window][inside]
    after = scene.labels.copy()
    after[window][inside] = 0
    for label in np.unique(under[under > 0]):
        around = scene.placed[label - 1].window
        before = (scene.labels[around] == label).sum()
        left = after[around] == label
        if before - left.sum() > MAX_COVERED * min(before, under.size) or left.sum() < MIN_AREA_PX:
            return False
        if ndimage.label(left)[1] != 1:
            return False
    return True


def num_that_cover(kind, height, width, diameter):
    """Number of nuclei that cover the usual share of a picture of this kind."""
    return max(1, int(round(COVERAGE[kind] * height * width / (np.pi * diameter**2 / 4))))


# --- Fluorescence


class CellLine(NamedTuple):
    """What the nuclei of one fluorescence picture have in common.

    Attributes:
        elongation: round lymphoid cells have little, long fibroblasts much.
        has_chromocentres: a few bright dots in each nucleus, as in mouse cells.
        contrast: of the texture.
        spread: of brightness between nuclei: DNA content, focus, staining.
    """

    elongation: float
    has_chromocentres: bool
    contrast: float
    spread: float


def draw_fluorescence(random, picture, num_nuclei):
    """Stained DNA that glows on a dark background.

    Returns:
        (H, W) float64 light in 0...1, and the labels.
    """
    line = CellLine(
        elongation=random.uniform(0.05, 0.5),
        has_chromocentres=random.uniform() < 0.3,
        contrast=random.uniform(0.10, 0.28),
        spread=random.uniform(0.15, 0.5),
    )
    propose = functools.partial(propose_cell, picture=picture, line=line)
    allowed = np.ones((picture.height, picture.width), dtype=bool)
    scene = place(random, propose, num_nuclei, picture.touching, allowed)
    light = glow_of_nuclei(random, scene, picture.diameter, line)
    add_specks(random, light, scene.labels)
    return through_microscope(random, light, picture.diameter), scene.labels


def propose_cell(random, picture, line):
    """A nucleus anywhere in the picture; a few are condensed: small, ragged and bright."""
    condensed = random.uniform() < 0.04  # in division or dying
    size = picture.diameter * np.exp(random.normal() * 0.16) * (0.7 if condensed else 1.0)
    aspect = 1 + np.abs(random.normal()) * line.elongation
    centre = random.uniform(0, picture.height), random.uniform(0, picture.width)
    look = "condensed" if condensed else "interphase"
    angle = random.uniform(0, np.pi)
    return new_nucleus(random, centre, size, look, aspect, angle, 0.08 if condensed else 0.045)


def glow_of_nuclei(random, scene, diameter, line):
    """The light of the nuclei alone, (H, W) float64."""
    height, width = scene.labels.shape
    fine = smooth_noise(random, height, width, max(1.6, 0.09 * diameter))
    coarse = smooth_noise(random, height, width, max(2.5, 0.22 * diameter))
    light = np.zeros((height, width))
    for label, (nucleus, window, distance) in enumerate(scene.placed, start=1):
        brightness = 0.55 * np.exp(random.normal() * line.spread)
        brightness = brightness * (1.8 if nucleus.look == "condensed" else 1.0)
        shift = random.uniform(size=2)
        nucleolus = random.uniform(-0.5, 0.5, size=(2, 2)) * diameter * 0.5
        own = scene.labels[window] == label
        clumps = other_place(coarse, own.shape, shift)
        grain = line.contrast * (0.5 * other_place(fine, own.shape, shift) + clumps)
        if line.has_chromocentres:
            grain = grain + 0.7 * np.clip(clumps - 0.9, 0, 1)
        dome = 0.55 + 0.45 * np.sqrt(np.clip(1 - distance**2, 0, 1))
        glow = brightness * dome * np.maximum(1 + grain, 0.3)
        if not line.has_chromocentres:
            strength = 0.45 * line.contrast / 0.2
            glow = glow * holes(nucleus, window, nucleolus, 0.09 * diameter, strength)
        light[window][own] = glow[own]
    light[scene.overlap] *= 1.3  # two layers of DNA, the lower one out of focus
    return light


def add_specks(random, light, labels):
    """Add debris to the light, in place, outside the nuclei."""
    height, width = labels.shape
    num_specks = random.poisson(2.5)
    for row, column, size, power in random.uniform(size=(num_specks, 4)):
        centre = row * height, column * width
        speck = new_nucleus(random, centre, 2 + 3 * size, "speck", 1.3, 6 * size, 0.2)
        window, distance = distance_map(speck, height, width)
        is_speck = (distance < 1) & (labels[window] == 0)
        light[window] += np.where(is_speck, 0.15 + 0.6 * power, 0)


def through_microscope(random, light, diameter):
    """Light of the specimen -> what the camera records: haze, blur, background, noise, hot pixels.

    Args:
        random: the generator.
        light: (H, W) float64.
        diameter: of a typical nucleus in pixels.

    Returns:
        (H, W) float64 in 0...1.
    """
    height, width = light.shape
    longer = max(height, width)
    haze = ndimage.gaussian_filter(light, 0.45 * diameter, truncate=2.5)
    light = ndimage.gaussian_filter(light, random.uniform(0.6, 1.2) * (0.7 + diameter / 90))
    uneven = np.exp(0.22 * smooth_noise(random, height, width, 0.8 * longer))
    background = random.uniform(0.02, 0.09)
    background = background * (1 + 0.15 * smooth_noise(random, height, width, 0.25 * longer))
    light = uneven * (light + random.uniform(0.04, 0.14) * haze + background)
    # Exposure: most pictures are too dark, a few just too bright.
    light *= random.uniform(0.3, 1.05) / max(light.max(), 0.5)

    electrons = np.exp(random.uniform(np.log(250), np.log(3000)))  # at full scale
    shot = random.normal(size=(height, width)) * np.sqrt(np.maximum(light, 0) / electrons)
    light = light + shot + random.normal(size=(height, width)) * 0.004 + 0.01
    for row, column, power in random.uniform(size=(random.poisson(1.0), 3)):
        light[int(row * height), int(column * width)] += 0.2 + 0.5 * power  # a hot pixel
    return np.clip(light, 0, 1)


# --- Tissue


class Fibres(NamedTuple):
    """The fibres between the glands: curved lines of one direction.

    Attributes:
        direction: in radians from the column axis.
        along: (H, W) position along the lines, in pixels.
        across: (H, W) position across them; a line has one value.
        slope_row: (H, W) how much the lines are shifted more from one row to the next, in pixels.
        slope_column: (H, W) the same from one column to the next.
    """

    direction: float
    along: np.ndarray
    across: np.ndarray
    slope_row: np.ndarray
    slope_column: np.ndarray


class Glands(NamedTuple):
    """Glands, each an outline around a white lumen, lined by an epithelium.

    Attributes:
        outlines: one `Nucleus` for each gland.
        thickness_px: of the epithelium.
        lumen: (H, W) bool.
        epithelium: (H, W) float64, 1 inside, falling to 0 outside.
    """

    outlines: list[Nucleus]
    thickness_px: float
    lumen: np.ndarray
    epithelium: np.ndarray


class Tissue(NamedTuple):
    """A section without its nuclei: structures, and the share of each kind of cell, 0...1."""

    fibres: Fibres
    glands: Glands
    plump_share: float
    lymphocyte_share: float


def draw_tissue(random, picture, num_nuclei):
    """A section stained with haematoxylin and eosin.

    Glands with a white lumen are lined by round pale nuclei. Between them are fibres with long dark
    nuclei, and lymphocytes.

    Returns:
        The two stains, both (H, W) float64, and the labels.
    """
    diameter, shape = picture.diameter, (picture.height, picture.width)
    fibres = draw_fibres(random, shape, diameter)
    glands = draw_glands(random, shape, diameter)
    tissue = Tissue(fibres, glands, random.uniform(0.2, 0.8), random.uniform(0.05, 0.3))
    propose = functools.partial(propose_tissue_cell, picture=picture, tissue=tissue)
    scene = place(random, propose, num_nuclei, picture.touching, ~glands.lumen)
    haematoxylin, eosin, empty = stain_structures(random, tissue, diameter)

    # Haloes: fixation shrinks cells away from the fibres.
    body = ndimage.gaussian_filter((scene.labels > 0).astype(float), 0.12 * diameter)
    eosin = eosin * (1 - random.uniform(0.1, 0.5) * np.clip(2 * body, 0, 1))

    stain_nuclei(random, haematoxylin, eosin, scene, diameter)
    haematoxylin[scene.overlap] *= 1.15  # the section has a thickness

    # Nuclei just outside the focal plane: pale shadows that an annotator would not count.
    for _ in range(random.poisson(0.06 * num_nuclei)):
        window, distance = distance_map(propose(random), *shape, margin_px=8)
        shadow = 0.28 / (1 + np.exp((distance - 1) * 5)) * (1 - empty[window])
        haematoxylin[window] += np.where(scene.labels[window] > 0, 0, shadow)
    return haematoxylin, eosin, scene.labels


def draw_fibres(random, shape, diameter):
    """The lines that the fibres follow."""
    height, width = shape
    direction = random.uniform(0, np.pi)
    warp = smooth_noise(random, height, width, 3.5 * diameter) * 0.6 * diameter
    y, x = np.mgrid[0:height, 0:width].astype(float)
    along = x * np.cos(direction) + y * np.sin(direction)
    across = y * np.cos(direction) - x * np.sin(direction) + warp
    flat = (np.zeros_like(warp), np.zeros_like(warp))
    slope_row, slope_column = np.gradient(warp) if min(height, width) > 1 else flat
    return Fibres(direction, along, across, slope_row, slope_column)


def draw_glands(random, shape, diameter):
    """Up to three glands, as many as find room."""
    height, width = shape
    room = height * width / (np.pi * (3.2 * diameter) ** 2)
    outlines = []
    for _ in range(min(3, random.poisson(min(0.35 * room, 1.4)))):
        size = diameter * random.uniform(2.5, 5.5)
        centre = (random.uniform(0, height), random.uniform(0, width))
        aspect, angle = random.uniform(1, 1.9), random.uniform(0, np.pi)
        outlines.append(new_nucleus(random, centre, size, "gland", aspect, angle, 0.1))
    thickness_px = 1.15 * diameter
    lumen, epithelium = np.zeros(shape, dtype=bool), np.zeros(shape)
    for gland in outlines:
        window, distance = distance_map(gland, height, width, margin_px=3 * thickness_px)
        beyond = (distance - 1) * np.sqrt(gland.long_px * gland.short_px)
        lumen[window] |= beyond < 0
        lining = np.clip(1.5 - beyond / (1.6 * thickness_px), 0, 1)
        epithelium[window] = np.maximum(epithelium[window], lining)
    return Glands(outlines, thickness_px, lumen, epithelium)


def propose_tissue_cell(random, picture, tissue):
    """A nucleus in the epithelium of a gland, a lymphocyte, or one between the fibres."""
    diameter, fibres, glands = picture.diameter, tissue.fibres, tissue.glands
    if glands.outlines and random.uniform() < 0.6:
        gland = pick(random, glands.outlines)
        towards = random.uniform(0, 2 * np.pi)
        layer = glands.thickness_px * pick(random, [0.75, 0.75, 0.85, 1.7])
        far = reach_px(gland, towards) + layer
        centre = gland.row + far * np.sin(towards), gland.column + far * np.cos(towards)
        angle, aspect = towards + random.normal() * 0.25, random.uniform(1.05, 1.6)
        size = 1.05 * diameter * np.exp(random.normal() * 0.12)
        return new_nucleus(random, centre, size, "vesicular", aspect, angle)
    centre = row, column = random.uniform(0, picture.height), random.uniform(0, picture.width)
    if random.uniform() < tissue.lymphocyte_share:
        size = 0.72 * diameter * np.exp(random.normal() * 0.08)
        return new_nucleus(random, centre, size, "dark", random.uniform(1, 1.2), 0.0, 0.03)
    pixel = min(int(row), picture.height - 1), min(int(column), picture.width - 1)
    # The fibres are lines of equal `across`, and a long nucleus lies along them.
    angle = np.arctan2(
        np.sin(fibres.direction) - fibres.slope_column[pixel],
        np.cos(fibres.direction) + fibres.slope_row[pixel],
    )
    angle += random.normal() * 0.12
    if random.uniform() < tissue.plump_share:
        size, aspect = diameter * np.exp(random.normal() * 0.18), random.uniform(1.1, 1.8)
        return new_nucleus(random, centre, size, "vesicular", aspect, angle, 0.05)
    size, aspect = 0.9 * diameter * np.exp(random.normal() * 0.15), random.uniform(2.0, 3.6)
    return new_nucleus(random, centre, size, "spindle", aspect, angle, 0.05)


def stain_structures(random, tissue, diameter):
    """Stain all but the nuclei: bundles of collagen, waves within them, clefts, glands.

    Returns:
        Haematoxylin, eosin, and how empty the lumen is (0...1), all (H, W) float64.
    """
    (_, along, across, _, _), glands = tissue.fibres, tissue.glands
    height, width = along.shape
    epithelium = glands.epithelium
    fibres = fibre_noise(random, across, along, 0.28 * diameter, 3.5 * diameter)
    bundles = fibre_noise(random, across, along, 1.3 * diameter, 9.0 * diameter)
    cloud = smooth_noise(random, height, width, 4.0 * diameter)
    bent = across + 0.25 * diameter * cloud
    threads = fibre_noise(random, bent, along, max(1.2, 0.09 * diameter), 1.1 * diameter)
    grain = smooth_noise(random, height, width, max(1.2, 0.06 * diameter))
    texture = 0.15 * fibres + 0.17 * bundles + 0.16 * cloud + 0.16 * threads + 0.10 * grain
    eosin = 0.40 * np.exp(texture)
    # Clefts, where the section tore.
    cleft = np.clip(1.5 * (0.7 * bundles + 0.5 * fibres - 1.0), 0, 1) * random.uniform(0.5, 1.0)
    cytoplasm = np.exp(0.12 * smooth_noise(random, height, width, 0.2 * diameter))
    eosin = eosin * (1 - cleft) * (1 - epithelium) + 0.36 * cytoplasm * epithelium
    haematoxylin = 0.05 + 0.03 * np.abs(threads) + 0.13 * cytoplasm * epithelium
    empty = np.clip(ndimage.gaussian_filter(glands.lumen.astype(float), 0.8) * 1.2, 0, 1)
    secretion = random.uniform(0, 0.12) * np.exp(0.15 * cloud)
    eosin = eosin * (1 - empty) + secretion * empty
    haematoxylin = haematoxylin * (1 - empty) + 0.01 * empty
    return haematoxylin, eosin, empty


def stain_nuclei(random, haematoxylin, eosin, scene, diameter):
    """Colour the nuclei into both stains, in place: pale ones with texture, dark ones even."""
    labels = scene.labels
    height, width = labels.shape
    fine = smooth_noise(random, height, width, max(1.5, 0.075 * diameter))
    coarse = smooth_noise(random, height, width, max(2.2, 0.16 * diameter))
    for label, (nucleus, window, distance) in enumerate(scene.placed, start=1):
        tone = np.exp(random.normal() * 0.22)
        shift = random.uniform(size=2)
        num_nucleoli = pick(random, [1, 2])
        nucleolus = random.uniform(-0.5, 0.5, size=(num_nucleoli, 2)) * diameter * 0.45
        own = labels[window] == label
        clumps = other_place(fine, own.shape, shift) + 0.8 * other_place(coarse, own.shape, shift)
        if nucleus.look == "vesicular":  # pale, with a membrane, clumps of chromatin and nucleoli
            thickness = max(0.09, 1.1 / nucleus.short_px)
            membrane = np.exp(-(((distance - 0.93) / thickness) ** 2))
            stain = 0.72 + 0.5 * membrane + 0.30 * np.clip(clumps, -0.8, 2.0)
            stain = stain + 0.8 * (1 - holes(nucleus, window, nucleolus, 0.075 * diameter, 1.0))
        else:
            stain = (1.7 if nucleus.look == "dark" else 1.3) + 0.24 * clumps
        edge = np.clip((1 - distance) * nucleus.short_px / 1.5 + 0.55, 0, 1)
        stain = np.clip(tone * stain, 0.35, 2.6) * edge
        haematoxylin[window][own] = np.maximum(haematoxylin[window], stain)[own]
        eosin[window][own] = 0.25 * eosin[window][own] + 0.14


def develop_tissue(random, haematoxylin, eosin):
    """Stains -> (H, W, 3) float64 RGB in 0...1, by Beer and Lambert, through lens, camera, JPEG."""
    laboratory = random.uniform(0.3, 1.0)  # between the two published stain vectors
    strength = random.uniform(0.85, 1.2), random.uniform(0.7, 1.35)
    vectors = [
        (1 - laboratory) * stain[0] + laboratory * stain[1] for stain in (HAEMATOXYLIN, EOSIN)
    ]
    density = strength[0] * haematoxylin[..., None] * vectors[0]
    density = density + strength[1] * eosin[..., None] * vectors[1]
    lamp = np.array([0.96, 0.95, 0.96]) + random.uniform(-0.02, 0.02, size=3)
    sigma = random.uniform(0.6, 0.95)
    rgb = ndimage.gaussian_filter(lamp * np.exp(-density), (sigma, sigma, 0))
    rgb = rgb + random.normal(size=rgb.shape) * 0.006
    return np.clip(jpeg_like(np.clip(rgb, 0, 1), random.uniform(2.0, 5.0)), 0, 1)


def develop_brightfield(random, haematoxylin, eosin):
    """The same section through a grey camera: pale background, grey cells, dark nuclei.

    Returns:
        (H, W, 3) float64 in 0...1, of three equal channels.
    """
    density = 0.75 * haematoxylin + 0.3 * eosin * random.uniform(0.6, 1.2)
    grey = ndimage.gaussian_filter(0.93 * np.exp(-density), random.uniform(0.6, 1.0))
    grey = grey + random.normal(size=grey.shape) * 0.008
    return np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=2)


def jpeg_like(rgb, step):
    """Round the cosine coefficients of 8 x 8 blocks, as JPEG does.

    Pillow's own JPEG would not give the same pixels everywhere.

    Args:
        rgb: (H, W, 3) float64 in 0...1.
        step: quantisation of the lowest frequencies in grey levels; the highest have five times
            as much.
    """
    height, width, _ = rgb.shape
    to_ycc = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    padding = ((0, -height % 8), (0, -width % 8), (0, 0))
    padded = np.pad(255 * rgb, padding, mode="edge") @ to_ycc.T
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8, 3)
    frequency = np.add.outer(np.arange(8), np.arange(8))[:, None, :, None] / 14
    coarseness = step * (1 + 4 * frequency) * np.array([1.0, 1.6, 1.6])  # eyes see less of colour
    coefficients = fft.dctn(blocks, axes=(1, 3), norm="ortho") / coarseness
    blocks = fft.idctn(np.round(coefficients) * coarseness, axes=(1, 3), norm="ortho")
    return (blocks.reshape(padded.shape)[:height, :width] @ np.linalg.inv(to_ycc).T) / 255


# --- Pictures and sets


def draw(kind, height, width, num_nuclei=None, diameter=16.0, seed=0, touching=0.3):
    """Draw one 8-bit picture; the arguments and the result are those of `draw_picture`."""
    return draw_picture(Picture(kind, height, width, num_nuclei, diameter, seed, touching))


def draw_picture(picture):
    """Draw one picture and its ground truth.

    Args:
        picture: a `Picture`.

    Returns:
        image: (H, W, 3) of `picture.dtype`.
        labels: (H, W) int32, 0 background, 1...n without gaps, each of one piece (joined along
            pixel edges) and of MIN_AREA_PX or more.

    Raises:
        ValueError: the picture has a value that `Picture` does not allow.
    """
    kind, height, width, num_nuclei, diameter, seed, touching, dtype = picture
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if height < 1 or width < 1 or diameter <= 0 or not 0 <= touching <= 1:
        raise ValueError(
            "height and width must be 1 or more, diameter above 0 and touching within 0 to 1; got "
            f"{height}, {width}, {diameter} and {touching}"
        )
    if dtype not in LEVELS:
        raise ValueError(f"dtype must be one of {', '.join(LEVELS)}; got {dtype!r}")
    random = np.random.RandomState(seed)
    if num_nuclei is None:
        num_nuclei = num_that_cover(kind, height, width, diameter)
    if kind == "fluorescence":
        light, labels = draw_fluorescence(random, picture, num_nuclei)
        image = np.repeat(light[..., None], 3, axis=2)
    else:
        haematoxylin, eosin, labels = draw_tissue(random, picture, num_nuclei)
        develop = develop_tissue if kind == "tissue" else develop_brightfield
        image = develop(random, haematoxylin, eosin)
    return np.round(image * LEVELS[dtype]).astype(dtype), labels


class Entry(NamedTuple):
    """One pair of a set: the folders of its two files, their stem, and what is drawn."""

    image_folder: str
    truth_folder: str
    stem: str
    picture: Picture


def num_test_images(num_pairs):
    """A quarter of the training pairs, rounded up."""
    return -(-num_pairs // PAIRS_PER_TEST_IMAGE)


def plan(num_pairs, seed):
    """What a set holds: a list of `Entry`, training pairs first."""
    return [
        *plan_part(FOLDERS[:2], "", num_pairs, FLUORESCENCE_SHARE, (seed, 0)),
        *plan_part(FOLDERS[2:], "test_", num_test_images(num_pairs), 0.5, (seed, 1)),
    ]


def plan_part(folders, prefix, total, fluorescence_share, seeds):
    """The entries of the training pairs (seeds end in 0) or of the test images (in 1)."""
    entries = []
    num_fluorescence = int(np.ceil(total * fluorescence_share))
    numbers = {"fluorescence": num_fluorescence, "tissue": total - num_fluorescence}
    for kind, num_images in numbers.items():
        for number in range(1, num_images + 1):
            stem = f"{prefix}{kind}_{number:02d}"
            turn = number - 1 + 5 * seeds[-1]  # the test images begin elsewhere in the lists
            height, width = SIZES_PX[turn % len(SIZES_PX)]
            picture = Picture(
                kind=kind,
                height=height,
                width=width,
                num_nuclei=0 if stem in EMPTY else None,
                diameter=DIAMETERS_PX[kind][turn % len(DIAMETERS_PX[kind])],
                seed=(*seeds, KINDS.index(kind), number),
                touching=TOUCHING[turn % len(TOUCHING)],
                dtype="uint16" if stem in SIXTEEN_BIT else "uint8",
            )
            entries.append(Entry(*folders, stem, picture))
    return entries


def write_png(path, array):
    """Write (H, W) or (H, W, 3) integers as PNG with our mark, whole or not at all."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", MARK)
    temporary = path.with_name(f".{path.name}.part")
    try:
        Image.fromarray(array).save(temporary, format="PNG", optimize=True, pnginfo=info)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_ours(path):
    """Whether an earlier run of this script wrote the file."""
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == MARK
    except OSError:
        return False


def write_set(out, num_pairs=NUM_PAIRS, seed=SEED, force=False):
    """Write a set under the folder `out`.

    Files of an earlier run are replaced; those that no longer belong to the set are removed.

    Returns:
        The number of bytes.

    Raises:
        FileExistsError: the folders hold files that this script did not make, and `force` is not
            set.
    """
    entries = plan(num_pairs, seed)
    folders = [out / folder for folder in FOLDERS]
    present = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    present = [path for path in present if not path.name.startswith(".")]
    foreign = [path for path in present if not is_ours(path)]
    if foreign and not force:
        names = ", ".join(str(path) for path in foreign[:5])
        raise FileExistsError(
            f"{names}: {len(foreign)} file(s) here were not made by this script and would be mixed "
            "with or replaced by synthetic images; give another folder with --out, or --force to "
            "write all the same"
        )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    written = set()
    for entry in entries:
        image, labels = draw_picture(entry.picture)
        image_path = out / entry.image_folder / f"{entry.stem}.png"
        truth_path = out / entry.truth_folder / f"{entry.stem}.png"
        is_grey = entry.picture.kind == "fluorescence"
        write_png(image_path, image[..., 0] if is_grey else image)
        write_png(truth_path, labels.astype(np.uint16))
        written |= {image_path, truth_path}
    for path in present:
        if path not in written and path not in foreign:
            path.unlink()
    return sum(path.stat().st_size for path in written)


def main(argv=None):
    """Write a set."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY,
        metavar="DIR",
        help="folder that gets data/ and test_raw/ (default: this project)",
    )
    parser.add_argument(
        "--num",
        type=int,
        default=NUM_PAIRS,
        help="training pairs; a quarter as many test images are added (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=SEED, help="random seed, 0 or more (default: %(default)s)"
    )
    parser.add_argument(
        "--force", action="store_true", help="write even where files of other origin lie"
    )
    args = parser.parse_args(argv)
    if args.num < 1 or args.seed < 0:
        parser.error(
            f"--num must be 1 or more and --seed 0 or more; got {args.num} and {args.seed}"
        )
    try:
        num_bytes = write_set(args.out, num_pairs=args.num, seed=args.seed, force=args.force)
    except OSError as error:
        print(f"synthetic.py: {error}", file=sys.stderr)
        return 1
    print(
        f"{args.num} pairs in {args.out / 'data'}, {num_test_images(args.num)} test images in "
        f"{args.out / 'test_raw'} (truth in {args.out / 'data' / 'test_gt'}): "
        f"{num_bytes / 1e6:.1f} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
