"""Draw synthetic microscopy images of nuclei with per-nucleus truth, for the tests and for the set that ships in data/.

    python tests/synthetic.py                            rewrite data/raw, data/gt, test_raw and data/test_gt
    python tests/synthetic.py --out /tmp/more --num 200 --seed 7    another and larger set, elsewhere

In a test:

    image, labels = draw("fluorescence", 128, 96, num_nuclei=8, diameter=18, seed=3, touching=0.5)

The same seed gives the same pixels everywhere: the generator is NumPy's `RandomState`, whose stream is frozen for good
(that of `default_rng` is not); all arithmetic is float64, where the last bit of a processor's cosine does not survive
rounding to a grey level; and how many numbers are drawn never depends on a rounded pixel.

The pictures are plausible, not measured: scores on them say that the program works, not that a model is good.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin
from scipy import fft, ndimage

REPOSITORY = Path(__file__).resolve().parent.parent
SEED = 0
NUM_PAIRS = 32  # two minutes of training on two cores see each of them often
PAIRS_PER_TEST_IMAGE = 4
FLUORESCENCE_SHARE = 9 / 16  # both kinds often enough to be learned from 32 pairs

KINDS = ("fluorescence", "tissue", "brightfield")
MIN_AREA_PX = 20  # smaller than this and nobody could tell a nucleus from a speck
MAX_COVERED = 0.25  # of the smaller of two overlapping nuclei: more, and the truth would be a guess
NUM_TRIES = 30  # places tried for one nucleus before the picture counts as full
COVERAGE = {"fluorescence": 0.16, "tissue": 0.24, "brightfield": 0.10}  # of the picture, when no number is given

# Optical density per unit of stain in red, green and blue, each of length one.
HAEMATOXYLIN = np.array([[0.65, 0.70, 0.29], [0.5626, 0.7201, 0.4062]])  # Ruifrok & Johnston 2001 (skimage's
EOSIN = np.array([[0.07, 0.99, 0.11], [0.2159, 0.8012, 0.5581]])  # rgb_from_hed), Macenko et al. 2009: two laboratories

# The shipped set goes round these lists; their lengths share no factor, so that the combinations differ.
SIZES_PX = [(256, 256), (224, 288), (256, 200), (200, 240), (288, 216), (240, 240), (208, 360)]  # height, width
DIAMETERS_PX = {
    "fluorescence": (16, 26, 11, 38, 20, 13, 30, 18, 45, 14, 23),
    "tissue": (20, 14, 28, 17, 36, 24, 12, 18, 32, 15, 22),
}
TOUCHING = (0.3, 0.6, 0.1, 0.45, 0.75)
SIXTEEN_BIT = {"fluorescence_04", "fluorescence_09"}  # as a 12-bit camera writes them: nearly black unless scaled
EMPTY = {"fluorescence_12"}  # background and debris, no nucleus: a valid negative
FOLDERS = ("data/raw", "data/gt", "test_raw", "data/test_gt")
MARK = "tests/synthetic.py"  # text inside each file, by which a second run knows its own


class Nucleus(NamedTuple):
    """One outline: an ellipse whose radius is changed by a short Fourier series and whose long axis may be bent."""

    row: float
    column: float
    long_px: float  # half axes
    short_px: float
    angle: float  # of the long axis, radians from the column axis
    harmonics: np.ndarray  # second to fifth, complex: the size is a share of the radius, the angle is the phase
    bend: float
    look: str


def new_nucleus(random, row, column, diameter, look, aspect, angle, roughness=0.05):
    """Dress a place with a shape. `diameter` is that of the circle of equal area, in pixels."""
    size = random.normal(size=4) * roughness * 3.0 / np.arange(2, 6) ** 1.5
    harmonics = size * np.exp(1j * random.uniform(0, 2 * np.pi, size=4))
    bend = random.normal() * 0.10
    half = diameter / 2
    return Nucleus(row, column, half * np.sqrt(aspect), half / np.sqrt(aspect), angle, harmonics, bend, look)


def wobble(nucleus, u, v, distance):
    """Relative radius of the outline in the direction of (u, v); powers of a complex number instead of cosines."""
    turn = (u + 1j * v) / np.maximum(distance, 1e-9)
    total = np.zeros_like(turn)
    for harmonic in nucleus.harmonics[::-1]:
        total = (total + harmonic) * turn
    return np.minimum(np.maximum(1 + (total * turn).real, 0.6), 1.25)


def reach_px(nucleus, direction):
    """Distance from the centre to the outline towards `direction` (radians from the column axis)."""
    u = np.cos(direction - nucleus.angle) / nucleus.long_px
    v = np.sin(direction - nucleus.angle) / nucleus.short_px
    return float(wobble(nucleus, u, v, np.hypot(u, v)) / np.hypot(u, v))


def span(centre, reach, length):
    """The pixels within `reach` of `centre` along an axis of `length` pixels; none, if the axis ends before."""
    return slice(min(max(int(centre - reach), 0), length), min(max(int(centre + reach) + 2, 0), length))


def depth_map(nucleus, height, width, margin_px=4):
    """Window around a nucleus and, in it, the relative distance from the centre: below 1 is inside.

    Returns (rows slice, columns slice), float64 map of the window's size; the window is cut to the picture.
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


def pick(random, choices):
    """One of a list. Not by `randint`, whose integers have another width on another platform."""
    return choices[int(random.uniform() * len(choices))]


def smooth_noise(random, height, width, grain_px):
    """Gaussian noise of unit variance without structure finer than about `grain_px` (a number or one for each axis)."""
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


def place(random, height, width, propose, num_nuclei, touching, allowed):
    """Put nuclei into a picture one after the other; where two overlap, the later lies on top.

    Args:
        propose: function (random) -> Nucleus, at the place and with the shape that suits the tissue.
        touching: share of the nuclei that are put against an earlier one; the others keep a distance of 2 px or more.
        allowed: (H, W) bool, where a centre may lie.

    Returns:
        list of (Nucleus, window, depth map), (H, W) int32 labels 1...n in the same order, (H, W) bool of overlaps.
    """
    labels = np.zeros((height, width), dtype=np.int32)
    near = np.zeros((height, width), dtype=bool)
    overlap = np.zeros((height, width), dtype=bool)
    placed = []
    for _ in range(num_nuclei):
        against = bool(placed) and random.uniform() < touching
        for _ in range(NUM_TRIES):
            nucleus = propose(random)
            if against:
                anchor = pick(random, placed)[0]
                nucleus = nucleus._replace(angle=anchor.angle + random.normal() * 0.5, look=anchor.look)
                direction = random.uniform(0, 2 * np.pi)
                distance = reach_px(anchor, direction) + reach_px(nucleus, direction + np.pi)
                distance *= random.uniform(0.82, 0.97)
                nucleus = nucleus._replace(
                    row=anchor.row + distance * np.sin(direction), column=anchor.column + distance * np.cos(direction)
                )
            row, column = int(np.floor(nucleus.row)), int(np.floor(nucleus.column))
            if not (0 <= row < height and 0 <= column < width and allowed[row, column]):
                continue
            window, depth = depth_map(nucleus, height, width)
            inside = depth < 1
            area = inside.sum()
            if area < MIN_AREA_PX or (inside & ~allowed[window]).sum() > 0.1 * area:
                continue
            if not against and near[window][inside].any():
                continue
            if ndimage.label(inside)[1] != 1 or (against and not fits(labels, placed, window, inside)):
                continue
            placed.append((nucleus, window, depth))
            overlap[window] |= inside & (labels[window] > 0)
            labels[window][inside] = len(placed)
            near[window] |= depth < 1 + 3.5 / nucleus.short_px
            break
    return placed, labels, overlap


def fits(labels, placed, window, inside):
    """Whether a nucleus may be laid over those already there: it hides little of each and cuts none in two."""
    under = labels[window][inside]
    after = labels.copy()
    after[window][inside] = 0
    for label in np.unique(under[under > 0]):
        around = placed[label - 1][1]
        before = (labels[around] == label).sum()
        left = after[around] == label
        if before - left.sum() > MAX_COVERED * min(before, under.size) or left.sum() < MIN_AREA_PX:
            return False
        if ndimage.label(left)[1] != 1:
            return False
    return True


def num_that_cover(kind, height, width, diameter):
    """Number of nuclei that fills the usual share of a picture of this kind."""
    return max(1, int(round(COVERAGE[kind] * height * width / (np.pi * diameter**2 / 4))))


def draw_fluorescence(random, height, width, num_nuclei, diameter, touching):
    """Stained DNA glows on a dark ground. Returns (H, W) float64 light in 0...1 and the labels."""
    elongation = random.uniform(0.05, 0.5)  # cell lines differ: round lymphoid cells, long fibroblasts
    chromocentres = random.uniform() < 0.3  # mouse cells: a few bright dots in each nucleus
    contrast = random.uniform(0.10, 0.28)
    spread = random.uniform(0.15, 0.5)  # of brightness between nuclei: DNA content, focus, staining

    def propose(random):
        condensed = random.uniform() < 0.04  # in division or dying: small, ragged and bright
        size = diameter * np.exp(random.normal() * 0.16) * (0.7 if condensed else 1.0)
        aspect = 1 + np.abs(random.normal()) * elongation
        row, column = random.uniform(0, height), random.uniform(0, width)
        look = "condensed" if condensed else "interphase"
        angle = random.uniform(0, np.pi)
        return new_nucleus(random, row, column, size, look, aspect, angle, 0.08 if condensed else 0.045)

    allowed = np.ones((height, width), dtype=bool)
    placed, labels, overlap = place(random, height, width, propose, num_nuclei, touching, allowed)

    fine = smooth_noise(random, height, width, max(1.6, 0.09 * diameter))
    coarse = smooth_noise(random, height, width, max(2.5, 0.22 * diameter))
    light = np.zeros((height, width))
    for label, (nucleus, window, depth) in enumerate(placed, start=1):
        brightness = 0.55 * np.exp(random.normal() * spread) * (1.8 if nucleus.look == "condensed" else 1.0)
        shift = random.uniform(size=2)
        nucleolus = random.uniform(-0.5, 0.5, size=(2, 2)) * diameter * 0.5
        own = labels[window] == label
        grain = contrast * (0.5 * other_place(fine, own.shape, shift) + other_place(coarse, own.shape, shift))
        if chromocentres:
            grain = grain + 0.7 * np.clip(other_place(coarse, own.shape, shift) - 0.9, 0, 1)
        glow = brightness * (0.55 + 0.45 * np.sqrt(np.clip(1 - depth**2, 0, 1))) * np.maximum(1 + grain, 0.3)
        if not chromocentres:
            glow = glow * holes(nucleus, window, nucleolus, 0.09 * diameter, 0.45 * contrast / 0.2)
        light[window][own] = glow[own]
    light[overlap] *= 1.3  # two layers of DNA, the lower one out of focus

    num_specks = random.poisson(2.5)
    for row, column, size, power in random.uniform(size=(num_specks, 4)):
        speck = new_nucleus(random, row * height, column * width, 2 + 3 * size, "speck", 1.3, 6 * size, 0.2)
        window, depth = depth_map(speck, height, width)
        light[window] += np.where((depth < 1) & (labels[window] == 0), 0.15 + 0.6 * power, 0)

    haze = ndimage.gaussian_filter(light, 0.45 * diameter, truncate=2.5)
    light = ndimage.gaussian_filter(light, random.uniform(0.6, 1.2) * (0.7 + diameter / 90))
    uneven = np.exp(0.22 * smooth_noise(random, height, width, 0.8 * max(height, width)))
    ground = random.uniform(0.02, 0.09) * (1 + 0.15 * smooth_noise(random, height, width, 0.25 * max(height, width)))
    light = uneven * (light + random.uniform(0.04, 0.14) * haze + ground)
    light *= random.uniform(0.3, 1.05) / max(light.max(), 0.5)  # exposure: most too dark, a few just too bright

    electrons = np.exp(random.uniform(np.log(250), np.log(3000)))  # at full scale: exposure and camera
    shot = random.normal(size=(height, width)) * np.sqrt(np.maximum(light, 0) / electrons)
    light = light + shot + random.normal(size=(height, width)) * 0.004 + 0.01
    for row, column, power in random.uniform(size=(random.poisson(1.0), 3)):
        light[int(row * height), int(column * width)] += 0.2 + 0.5 * power  # hot pixel of the camera
    return np.clip(light, 0, 1), labels


def other_place(field, shape, shift):
    """Window of `shape` somewhere in a field of noise, so that neighbours do not share one pattern."""
    row = int(shift[0] * (field.shape[0] - shape[0] + 1))
    column = int(shift[1] * (field.shape[1] - shape[1] + 1))
    return field[row : row + shape[0], column : column + shape[1]]


def holes(nucleus, window, offsets, radius_px, strength):
    """Factor that is 1 but lower (or, for negative strength, higher) in round spots: the nucleoli."""
    y = np.arange(window[0].start, window[0].stop)[:, None] - nucleus.row
    x = np.arange(window[1].start, window[1].stop)[None, :] - nucleus.column
    factor = np.ones((y.size, x.size))
    for row, column in offsets:
        factor -= strength * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * radius_px**2))
    return factor


def draw_tissue(random, height, width, num_nuclei, diameter, touching):
    """Section stained with haematoxylin and eosin. Returns the two stains, both (H, W) float64, and the labels.

    Glands with a white lumen, lined by round pale nuclei; between them fibres with long dark ones and lymphocytes.
    """
    direction = random.uniform(0, np.pi)
    warp = smooth_noise(random, height, width, 3.5 * diameter) * 0.6 * diameter
    y, x = np.mgrid[0:height, 0:width].astype(float)
    along = x * np.cos(direction) + y * np.sin(direction)
    across = y * np.cos(direction) - x * np.sin(direction) + warp
    slope_row, slope_column = np.gradient(warp) if min(height, width) > 1 else (np.zeros_like(warp),) * 2

    room = height * width / (np.pi * (3.2 * diameter) ** 2)
    glands = []
    for _ in range(min(3, random.poisson(min(0.35 * room, 1.4)))):
        size = diameter * random.uniform(2.5, 5.5)
        spot = (random.uniform(0, height), random.uniform(0, width))
        glands.append(new_nucleus(random, *spot, size, "gland", random.uniform(1, 1.9), random.uniform(0, np.pi), 0.1))
    rim = 1.15 * diameter  # height of the epithelium
    lumen, epithelium = np.zeros((height, width), dtype=bool), np.zeros((height, width))
    for gland in glands:
        window, depth = depth_map(gland, height, width, margin_px=3 * rim)
        beyond = (depth - 1) * np.sqrt(gland.long_px * gland.short_px)
        lumen[window] |= beyond < 0
        epithelium[window] = np.maximum(epithelium[window], np.clip(1.5 - beyond / (1.6 * rim), 0, 1))
    plump = random.uniform(0.2, 0.8)
    lymphocytes = random.uniform(0.05, 0.3)

    def propose(random):
        if glands and random.uniform() < 0.6:
            gland = pick(random, glands)
            towards = random.uniform(0, 2 * np.pi)
            far = reach_px(gland, towards) + rim * pick(random, [0.75, 0.75, 0.85, 1.7])
            row, column = gland.row + far * np.sin(towards), gland.column + far * np.cos(towards)
            angle, aspect = towards + random.normal() * 0.25, random.uniform(1.05, 1.6)
            size = 1.05 * diameter * np.exp(random.normal() * 0.12)
            return new_nucleus(random, row, column, size, "vesicular", aspect, angle)
        row, column = random.uniform(0, height), random.uniform(0, width)
        if random.uniform() < lymphocytes:
            size = 0.72 * diameter * np.exp(random.normal() * 0.08)
            return new_nucleus(random, row, column, size, "dark", random.uniform(1, 1.2), 0.0, 0.03)
        at = min(int(row), height - 1), min(int(column), width - 1)
        # the fibres are lines of equal `across`, and a long nucleus lies along them
        angle = np.arctan2(np.sin(direction) - slope_column[at], np.cos(direction) + slope_row[at])
        angle += random.normal() * 0.12
        if random.uniform() < plump:
            size, aspect = diameter * np.exp(random.normal() * 0.18), random.uniform(1.1, 1.8)
            return new_nucleus(random, row, column, size, "vesicular", aspect, angle, 0.05)
        size, aspect = 0.9 * diameter * np.exp(random.normal() * 0.15), random.uniform(2.0, 3.6)
        return new_nucleus(random, row, column, size, "spindle", aspect, angle, 0.05)

    placed, labels, overlap = place(random, height, width, propose, num_nuclei, touching, ~lumen)

    # eosin: bundles of collagen, waves within them, and clefts where the section tore
    fibres = fibre_noise(random, across, along, 0.28 * diameter, 3.5 * diameter)
    bundles = fibre_noise(random, across, along, 1.3 * diameter, 9.0 * diameter)
    cloud = smooth_noise(random, height, width, 4.0 * diameter)
    threads = fibre_noise(random, across + 0.25 * diameter * cloud, along, max(1.2, 0.09 * diameter), 1.1 * diameter)
    grain = smooth_noise(random, height, width, max(1.2, 0.06 * diameter))
    eosin = 0.40 * np.exp(0.15 * fibres + 0.17 * bundles + 0.16 * cloud + 0.16 * threads + 0.10 * grain)
    cleft = np.clip(1.5 * (0.7 * bundles + 0.5 * fibres - 1.0), 0, 1) * random.uniform(0.5, 1.0)
    cytoplasm = np.exp(0.12 * smooth_noise(random, height, width, 0.2 * diameter))
    eosin = eosin * (1 - cleft) * (1 - epithelium) + 0.36 * cytoplasm * epithelium
    haematoxylin = 0.05 + 0.03 * np.abs(threads) + 0.13 * cytoplasm * epithelium
    empty = np.clip(ndimage.gaussian_filter(lumen.astype(float), 0.8) * 1.2, 0, 1)
    secretion = random.uniform(0, 0.12) * np.exp(0.15 * cloud)
    eosin, haematoxylin = eosin * (1 - empty) + secretion * empty, haematoxylin * (1 - empty) + 0.01 * empty

    # haloes: fixation shrinks cells away from the fibres
    body = ndimage.gaussian_filter((labels > 0).astype(float), 0.12 * diameter)
    eosin = eosin * (1 - random.uniform(0.1, 0.5) * np.clip(2 * body, 0, 1))

    stain_nuclei(random, haematoxylin, eosin, placed, labels, diameter)
    haematoxylin[overlap] *= 1.15  # the section has a thickness

    # nuclei just outside the focal plane: seen as pale shadows, and not counted by an annotator
    for _ in range(random.poisson(0.06 * num_nuclei)):
        ghost = propose(random)
        window, depth = depth_map(ghost, height, width, margin_px=8)
        shadow = 0.28 / (1 + np.exp((depth - 1) * 5))
        haematoxylin[window] += np.where(labels[window] > 0, 0, shadow * (1 - empty[window]))
    return haematoxylin, eosin, labels


def stain_nuclei(random, haematoxylin, eosin, placed, labels, diameter):
    """Colour the nuclei into both stains, in place: pale ones with chromatin and nucleoli, dark ones nearly even."""
    height, width = labels.shape
    fine = smooth_noise(random, height, width, max(1.5, 0.075 * diameter))
    coarse = smooth_noise(random, height, width, max(2.2, 0.16 * diameter))
    for label, (nucleus, window, depth) in enumerate(placed, start=1):
        tone = np.exp(random.normal() * 0.22)
        shift = random.uniform(size=2)
        nucleolus = random.uniform(-0.5, 0.5, size=(pick(random, [1, 2]), 2)) * diameter * 0.45
        own = labels[window] == label
        clumps = other_place(fine, own.shape, shift) + 0.8 * other_place(coarse, own.shape, shift)
        if nucleus.look == "vesicular":  # pale, with a membrane, clumps of chromatin and nucleoli
            membrane = np.exp(-(((depth - 0.93) / max(0.09, 1.1 / nucleus.short_px)) ** 2))
            stain = 0.72 + 0.5 * membrane + 0.30 * np.clip(clumps, -0.8, 2.0)
            stain = stain + 0.8 * (1 - holes(nucleus, window, nucleolus, 0.075 * diameter, 1.0))
        else:
            stain = (1.7 if nucleus.look == "dark" else 1.3) + 0.24 * clumps
        edge = np.clip((1 - depth) * nucleus.short_px / 1.5 + 0.55, 0, 1)
        stain = np.clip(tone * stain, 0.35, 2.6) * edge
        haematoxylin[window][own] = np.maximum(haematoxylin[window], stain)[own]
        eosin[window][own] = 0.25 * eosin[window][own] + 0.14


def fibre_noise(random, across, along, short_px, long_px):
    """Noise that is drawn out along curved lines: of unit variance, `short_px` across and `long_px` along them."""
    table = ndimage.gaussian_filter(random.normal(size=(64, 64)), 0.8, mode="wrap")
    where = [across / short_px * 1.5, along / long_px * 1.5]
    return ndimage.map_coordinates(table / table.std(), where, order=1, mode="grid-wrap")


def develop_tissue(random, haematoxylin, eosin):
    """Stains -> (H, W, 3) float64 RGB in 0...1 by the law of Beer and Lambert, through lens, camera and JPEG."""
    laboratory = random.uniform(0.3, 1.0)  # between the two published stain vectors
    strength = random.uniform(0.85, 1.2), random.uniform(0.7, 1.35)
    vector = [(1 - laboratory) * stain[0] + laboratory * stain[1] for stain in (HAEMATOXYLIN, EOSIN)]
    density = strength[0] * haematoxylin[..., None] * vector[0] + strength[1] * eosin[..., None] * vector[1]
    lamp = np.array([0.96, 0.95, 0.96]) + random.uniform(-0.02, 0.02, size=3)
    sigma = random.uniform(0.6, 0.95)
    rgb = ndimage.gaussian_filter(lamp * np.exp(-density), (sigma, sigma, 0))
    rgb = rgb + random.normal(size=rgb.shape) * 0.006
    return np.clip(jpeg_like(np.clip(rgb, 0, 1), random.uniform(2.0, 5.0)), 0, 1)


def jpeg_like(rgb, step):
    """Round the cosine coefficients of 8x8 blocks as JPEG does; not Pillow's, whose rounding changes with its library.

    Args:
        rgb: (H, W, 3) float64 in 0...1.
        step: quantisation of the lowest frequencies in grey levels; five times as coarse at the highest.
    """
    height, width, _ = rgb.shape
    to_ycc = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    padded = np.pad(255 * rgb, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge") @ to_ycc.T
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8, 3)
    frequency = np.add.outer(np.arange(8), np.arange(8))[:, None, :, None] / 14
    coarseness = step * (1 + 4 * frequency) * np.array([1.0, 1.6, 1.6])  # eyes see less of colour
    coefficients = fft.dctn(blocks, axes=(1, 3), norm="ortho") / coarseness
    blocks = fft.idctn(np.round(coefficients) * coarseness, axes=(1, 3), norm="ortho")
    return (blocks.reshape(padded.shape)[:height, :width] @ np.linalg.inv(to_ycc).T) / 255


def develop_brightfield(random, haematoxylin, eosin):
    """The same section through a grey camera: pale ground, grey cells, dark nuclei. (H, W, 3) float64 in 0...1."""
    density = 0.75 * haematoxylin + 0.3 * eosin * random.uniform(0.6, 1.2)
    grey = ndimage.gaussian_filter(0.93 * np.exp(-density), random.uniform(0.6, 1.0))
    grey = grey + random.normal(size=grey.shape) * 0.008
    return np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=2)


def draw(kind, height, width, num_nuclei=None, diameter=16.0, seed=0, touching=0.3, dtype="uint8"):
    """Draw one picture and the truth about it.

    Args:
        kind: "fluorescence", "tissue" (haematoxylin and eosin) or "brightfield" (grey).
        height, width: in pixels, from 1 upward.
        num_nuclei: at most so many; those that find no room are left out. None fills a usual share of the picture.
        diameter: of a typical nucleus in pixels; single ones vary by half.
        seed: int or tuple of ints; the same seed gives the same picture.
        touching: share of the nuclei that are put against another, 0 to 1. With 0 no two touch, not even by a corner.
        dtype: "uint8", or "uint16" for the values of a 12-bit camera (0 to 4095).

    Returns:
        image (H, W, 3) of `dtype`; labels (H, W) int32, 0 background, 1...n without gaps, each of one piece (joined
        along pixel edges) and of 20 pixels or more.

    Raises:
        ValueError: an argument outside the above.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if height < 1 or width < 1 or diameter <= 0 or not 0 <= touching <= 1:
        raise ValueError(
            f"height and width must be 1 or more, diameter above 0 and touching within 0 to 1; got {height}, {width}, "
            f"{diameter} and {touching}"
        )
    levels = {"uint8": 255, "uint16": 4095}
    if dtype not in levels:
        raise ValueError(f"dtype must be one of {', '.join(levels)}; got {dtype!r}")
    random = np.random.RandomState(seed)
    if num_nuclei is None:
        num_nuclei = num_that_cover(kind, height, width, diameter)
    if kind == "fluorescence":
        light, labels = draw_fluorescence(random, height, width, num_nuclei, diameter, touching)
        image = np.repeat(light[..., None], 3, axis=2)
    else:
        haematoxylin, eosin, labels = draw_tissue(random, height, width, num_nuclei, diameter, touching)
        develop = develop_tissue if kind == "tissue" else develop_brightfield
        image = develop(random, haematoxylin, eosin)
    return np.round(image * levels[dtype]).astype(dtype), labels


def num_test_images(num_pairs):
    """A quarter of the training pairs, rounded up."""
    return -(-num_pairs // PAIRS_PER_TEST_IMAGE)


def plan(num_pairs, seed):
    """What the set holds: a list of (image folder, truth folder, stem, arguments of `draw`)."""
    entries = []
    for part, raw, gt, total in (
        (0, *FOLDERS[:2], num_pairs),
        (1, *FOLDERS[2:], num_test_images(num_pairs)),
    ):
        share = FLUORESCENCE_SHARE if part == 0 else 0.5
        num_fluorescence = int(np.ceil(total * share))
        for kind, num in (("fluorescence", num_fluorescence), ("tissue", total - num_fluorescence)):
            for number in range(1, num + 1):
                stem = f"{kind}_{number:02d}" if part == 0 else f"test_{kind}_{number:02d}"
                turn = number - 1 + 5 * part  # the test images begin elsewhere in the lists
                height, width = SIZES_PX[turn % len(SIZES_PX)]
                settings = {
                    "kind": kind,
                    "height": height,
                    "width": width,
                    "num_nuclei": 0 if stem in EMPTY else None,
                    "diameter": DIAMETERS_PX[kind][turn % len(DIAMETERS_PX[kind])],
                    "touching": TOUCHING[turn % len(TOUCHING)],
                    "seed": (seed, part, KINDS.index(kind), number),
                    "dtype": "uint16" if stem in SIXTEEN_BIT else "uint8",
                }
                entries.append((raw, gt, stem, settings))
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
    """Write the set under the folder `out`; returns the number of bytes.

    Files of an earlier run are replaced, those that no longer belong to the set are removed.

    Raises:
        FileExistsError: the folders hold files that this script did not make, and `force` is not set.
    """
    entries = plan(num_pairs, seed)
    folders = [out / folder for folder in FOLDERS]
    present = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    present = [path for path in present if not path.name.startswith(".")]
    foreign = [path for path in present if not is_ours(path)]
    if foreign and not force:
        names = ", ".join(str(path) for path in foreign[:5])
        raise FileExistsError(
            f"{names}: {len(foreign)} file(s) here were not made by this script and would be mixed with or replaced by "
            "synthetic images; give another folder with --out, or --force to write all the same"
        )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    written = set()
    for raw, gt, stem, settings in entries:
        image, labels = draw(**settings)
        grey = image[..., 0] if settings["kind"] == "fluorescence" else image
        write_png(out / raw / f"{stem}.png", grey)
        write_png(out / gt / f"{stem}.png", labels.astype(np.uint16))
        written |= {out / raw / f"{stem}.png", out / gt / f"{stem}.png"}
    for path in present:
        if path not in written and path not in foreign:
            path.unlink()
    return sum(path.stat().st_size for path in written)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPOSITORY, help="folder that gets data/ and test_raw/ (the repository)")
    parser.add_argument("--num", type=int, default=NUM_PAIRS, help=f"training pairs; a quarter more for testing ({NUM_PAIRS})")
    parser.add_argument("--seed", type=int, default=SEED, help=f"0 or more; another seed, another set ({SEED})")
    parser.add_argument("--force", action="store_true", help="write even where files of other origin lie")
    args = parser.parse_args(argv)
    if args.num < 1 or args.seed < 0:
        parser.error(f"--num must be 1 or more and --seed 0 or more; got {args.num} and {args.seed}")
    try:
        num_bytes = write_set(args.out, num_pairs=args.num, seed=args.seed, force=args.force)
    except OSError as error:
        print(f"synthetic.py: {error}", file=sys.stderr)
        return 1
    print(
        f"{args.num} pairs in {args.out / 'data'}, {num_test_images(args.num)} test images in {args.out / 'test_raw'} "
        f"(truth in {args.out / 'data' / 'test_gt'}): {num_bytes / 1e6:.1f} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
