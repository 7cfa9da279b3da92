"""nuclei.slides.setup"""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from nuclei.images.intensity import intensity_range, normalise
from nuclei.images.modality import modality
from nuclei.inference.scale import busiest_window, estimate_scale
from nuclei.instances.confidence import image_uncertainty
from nuclei.instances.separate import median_diameter, separate
from nuclei.slides.tissue import UNSCANNED, ground_is_light

WHOLE_PX = 36_000_000  # pixels up to which scale and grey levels are decided by the whole slide, as of an image
LOOK_PX = 4096  # side of the piece of a larger slide by which its scale is estimated
SAMPLES, SAMPLE_PX = 64, 512  # pieces of a larger slide by whose pixels the range of grey levels is decided, their side
LARGEST = 2.5  # diameter of the largest nucleus, in median diameters; units see twice that beyond their core
REGION_PX = 4096  # side of what is separated at once: bounds the memory where a slide is seen much smaller than it is


class Setup(NamedTuple):
    """What is decided of a slide before its units, so that all of them, of a later run, too, see it alike.

    key: of the slide and all settings. shape, seen: (h, w) of the slide and as the network sees it, `scale` times as large.
    intensity: grey levels that become 0 and 1. white: grey level of glass. kind: as `modality`. side, margin, multiple: of
    the network's windows, in px that it sees. region, overlap: of what is separated at once, in px of the slide.
    """

    key: str
    shape: tuple
    seen: tuple
    scale: float
    intensity: tuple
    white: int
    kind: str
    side: int
    margin: int
    multiple: int
    region: int
    overlap: int


def decide(slide, overview, mask, network, num_maps, trained_diameter, geometry, scale, tile, key):
    """The `Setup` of a slide; `scale` is estimated where it is None. Raises: ValueError where the tile is too small."""
    margin, multiple = geometry["margin"], geometry["multiple"]
    if slide.shape[0] * slide.shape[1] <= WHOLE_PX:  # as predict.py decides for an image
        block = sample = slide[:, :]
    else:
        block, sample = look(slide, overview, mask) if mask.any() else (None, overview)
    intensity = intensity_range(sample)
    if scale is None and mask.any():
        scale, _ = estimate_scale(
            network,
            block,
            num_maps,
            trained_diameter,
            measure=lambda maps: median_diameter(separate(maps)),  # by default thresholds, as images
            uncertainty=image_uncertainty,
            prepare=lambda part: normalise(part, intensity),
            **geometry,
        )
    scale = scale or 1.0
    side = tile // multiple * multiple
    overlap = int(np.ceil(2 * LARGEST * trained_diameter / scale))
    # A window starts at a multiple, at most that far before what is needed; interpolation takes a pixel or two more.
    region = min(int((side - 2 * margin - multiple - 4) / scale), max(REGION_PX, 3 * overlap))
    if region < 3 * overlap:
        least = int(2 * margin + 2 * multiple + 4 + 3 * overlap * scale)
        raise ValueError(f"windows of {tile} px leave too little between the margins of slides; give --tile {least} or more")
    picture = overview if not ground_is_light(overview) else np.where(
        overview.max(axis=2, keepdims=True) > UNSCANNED * overview.max(), overview, overview.max())  # fmt: skip
    return Setup(
        key, slide.shape[:2], slide.at(scale).shape[:2], scale, intensity, 255 if slide.dtype == np.uint8 else int(sample.max()),
        modality(picture), side, margin, multiple, region, overlap,
    )  # fmt: skip


def look(slide, overview, mask):
    """Pixels of a large slide to decide by: the piece with the most in it, and many spread over the tissue, as (n, 3)."""
    step = slide.shape[0] / overview.shape[0]
    tissue = cv2.resize(mask.astype(np.uint8), overview.shape[1::-1], interpolation=cv2.INTER_NEAREST)[..., None] > 0
    ground = overview[~tissue[..., 0]].mean(axis=0).astype(overview.dtype) if not tissue.all() else 0
    at = busiest_window(np.where(tissue, overview, ground), int(LOOK_PX / step), int(LOOK_PX / step))
    top, left = (int(min(place * step, max(0, length - LOOK_PX))) for place, length in zip(at, slide.shape, strict=False))
    rows, columns = np.nonzero(mask)
    parts = []
    for chosen in np.unique(np.linspace(0, len(rows) - 1, SAMPLES).round().astype(int)):
        centre = (rows[chosen] + 0.5) * slide.shape[0] / mask.shape[0], (columns[chosen] + 0.5) * slide.shape[1] / mask.shape[1]
        row, column = (int(min(max(0, c - SAMPLE_PX / 2), length)) for c, length in zip(centre, slide.shape, strict=False))
        parts.append(slide[row : row + SAMPLE_PX, column : column + SAMPLE_PX].reshape(-1, 3))
    return slide[top : top + LOOK_PX, left : left + LOOK_PX], np.concatenate(parts)


def read_setup(folder):
    """The `Setup` in a work folder, or None where there is none that can be read."""
    try:
        told = json.loads((Path(folder) / "setup.json").read_text(encoding="utf-8"))
        return Setup(**{name: tuple(value) if isinstance(value, list) else value for name, value in told.items()})
    except (FileNotFoundError, ValueError, TypeError):
        return None


def work_folder(out, stem):
    """Where the units of a slide are kept until it is finished."""
    return Path(out) / f".{stem}.work"


def clear(out, stem):
    """Remove the work folder of a slide that is finished."""
    shutil.rmtree(work_folder(out, stem), ignore_errors=True)


def tile_path(folder, unit):
    """The file of a unit in the work folder."""
    return Path(folder) / f"unit_{unit.index:06d}.npz"
