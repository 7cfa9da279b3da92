"""What is decided about a slide before its tiles: scale, grey levels, kind, size of the tiles.

All tiles share one `Setup`, also those of a later run or of another machine, so the result does not
depend on the order of the work.
"""

from typing import Annotated, NamedTuple

import cv2
import numpy as np
from annotated_types import Ge, Gt

from nuclei.images.box import Box
from nuclei.images.busiest import busiest_window
from nuclei.images.intensity import intensity_range, normalise
from nuclei.images.modality import modality
from nuclei.images.stains import has_dab, white_of
from nuclei.inference.scale import estimate_scale
from nuclei.slides.tissue import UNSCANNED, is_bright_field

# Pixels up to which scale and grey levels are decided by the whole slide, as for an image.
WHOLE_PX = 36_000_000
LOOK_PX = 4096  # side of the piece of a larger slide by which its scale is estimated
NUM_SAMPLES = 64  # pieces of a larger slide by which its range of grey levels is decided
SAMPLE_PX = 512  # side of these pieces
# Diameter of the largest nucleus, in median diameters. Tiles see twice that beyond their core.
MAX_DIAMETERS = 2.5
# Side of the largest region. It bounds the memory where the network sees a slide much smaller.
MAX_REGION_PX = 4096
INTERPOLATION_PX = 4  # pixels at the ends of a window that interpolation may take in addition


Positive = Annotated[int, Ge(1)]


class Setup(NamedTuple):
    """What is decided about a slide before its tiles.

    Attributes:
        key: a hash of the slide, the model and all settings.
        shape: (H, W) of the slide.
        seen_shape: (H, W) of the slide as the network sees it.
        scale: how many times larger the network sees the slide.
        intensity: (low, high) grey levels that become 0 and 1.
        white: grey level of the background in bright field.
        kind: as of `modality`.
        has_dab: whether it is tissue with DAB.
        side_px, margin_px, multiple_px: of the network's windows, in px that it sees.
        region_px: side of what is separated at once, in px of the slide.
        overlap_px: how far a region reaches beyond its core, in px of the slide.
    """

    key: str
    shape: tuple[Positive, Positive]
    seen_shape: tuple[Positive, Positive]
    scale: Annotated[float, Gt(0)]
    intensity: tuple[float, float]
    white: Annotated[int, Ge(0)]
    kind: str
    has_dab: bool
    side_px: Positive
    margin_px: Annotated[int, Ge(0)]
    multiple_px: Positive
    region_px: Positive
    overlap_px: Annotated[int, Ge(0)]


def decide(slide, overview, mask, model, options, key):
    """Decide the `Setup` of a slide.

    Args:
        slide: a `Slide`.
        overview: (h, w, 3), the slide as a thumbnail.
        mask: bool, where it has tissue.
        model: a `Model`; estimates the scale where the options do not give one.
        options: an `Options`.
        key: goes into the setup.

    Returns:
        `Setup`.

    Raises:
        ValueError: the tile is too small.
    """
    if slide.shape[0] * slide.shape[1] <= WHOLE_PX:
        block = sample = slide[:, :]
    elif mask.any():
        block, sample = busiest_block(slide, overview, mask), sample_tissue(slide, mask)
    else:
        block, sample = None, overview
    intensity = intensity_range(sample)
    scale = options.scale_for(model, slide.mpp)
    if scale is None and mask.any():
        scale = scale_of(block, intensity, model)
    scale = scale or 1.0
    region_px, overlap_px = size_regions(options.tile_px, scale, model)
    white = white_of(sample)
    kind = modality(fill_unscanned(overview))
    return Setup(
        key=key,
        shape=slide.shape[:2],
        seen_shape=slide.at(scale).shape[:2],
        scale=scale,
        intensity=intensity,
        white=white,
        kind=kind,
        has_dab=kind == "tissue" and has_dab(sample, white),
        side_px=options.tile_px // model.multiple_px * model.multiple_px,
        margin_px=model.margin_px,
        multiple_px=model.multiple_px,
        region_px=region_px,
        overlap_px=overlap_px,
    )


def scale_of(block, intensity, model):
    """The scale of a slide, estimated on a block (h, w, 3) of it as on an image."""
    return estimate_scale(model, block, lambda part: normalise(part, intensity)).scale


def size_regions(tile_px, scale, model):
    """How large the regions of tiles are, and how far they overlap: (region_px, overlap_px).

    Args:
        tile_px: side of the windows that the network sees.
        scale: how many times larger it sees the slide.
        model: a `Model`.

    Raises:
        ValueError: the windows are too small; the message says which size is enough.
    """
    side_px = tile_px // model.multiple_px * model.multiple_px
    overlap_px = int(np.ceil(2 * MAX_DIAMETERS * model.diameter_px / scale))
    # A window starts at a multiple, and that may be up to a multiple before what is needed.
    unusable_px = 2 * model.margin_px + model.multiple_px + INTERPOLATION_PX
    region_px = min(int((side_px - unusable_px) / scale), max(MAX_REGION_PX, 3 * overlap_px))
    if region_px < 3 * overlap_px:
        enough_px = int(unusable_px + model.multiple_px + 3 * overlap_px * scale)
        raise ValueError(
            f"tiles of {tile_px} px leave too little between the margins of slides; "
            f"give --tile {enough_px} or more"
        )
    return region_px, overlap_px


def fill_unscanned(overview):
    """The overview of a slide; in bright field, white where it was never scanned."""
    if not is_bright_field(overview):
        return overview
    white = overview.max()
    is_scanned = overview.max(axis=2, keepdims=True) > UNSCANNED * white
    return np.where(is_scanned, overview, white)


def busiest_block(slide, overview, mask):
    """The block of a large slide with most in it: (LOOK_PX, LOOK_PX, 3), less at small slides."""
    step = slide.shape[0] / overview.shape[0]
    size = overview.shape[1::-1]  # OpenCV wants the width first
    tissue = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    background = 0
    if not tissue.all():
        background = overview[~tissue].mean(axis=0).astype(overview.dtype)
    only_tissue = np.where(tissue[..., None], overview, background)
    corner = busiest_window(only_tissue, int(LOOK_PX / step), int(LOOK_PX / step))
    top, left = (
        int(min(start * step, max(0, length - LOOK_PX)))
        for start, length in zip(corner, slide.shape, strict=False)
    )
    return slide[top : top + LOOK_PX, left : left + LOOK_PX]


def sample_tissue(slide, mask):
    """Pixels of a large slide from pieces that are spread over its tissue: (n, 3)."""
    rows, columns = np.nonzero(mask)
    chosen = np.unique(np.linspace(0, len(rows) - 1, NUM_SAMPLES).round().astype(int))
    parts = []
    for row, column in zip(rows[chosen], columns[chosen], strict=True):
        middle_row = (row + 0.5) * slide.shape[0] / mask.shape[0]
        middle_column = (column + 0.5) * slide.shape[1] / mask.shape[1]
        top = int(min(max(0, middle_row - SAMPLE_PX / 2), slide.shape[0]))
        left = int(min(max(0, middle_column - SAMPLE_PX / 2), slide.shape[1]))
        box = Box(top, top + SAMPLE_PX, left, left + SAMPLE_PX)
        parts.append(slide[box.place].reshape(-1, 3))
    return np.concatenate(parts)
