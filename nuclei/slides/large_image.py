"""A plain image that is too large to be done at once: its nuclei are found as on a slide.

    predict_images(large_jobs, run, find=find_in_bands)

What comes out is that of any image: one label file, one mask, one overlay, rows in the tables. The
image and its labels are in memory, its maps are not. Memory is then about 9 bytes for each pixel,
beside what the network needs for one tile.
"""

from typing import NamedTuple

import numpy as np

from nuclei.images.intensity import intensity_range, normalise
from nuclei.images.modality import modality
from nuclei.images.outliers import without_flat_border
from nuclei.images.reading import declared_pixels
from nuclei.images.resize import Resized
from nuclei.images.stains import has_dab, white_of
from nuclei.images.writing import MAX_PNG_LABELS
from nuclei.inference.scale import estimate_scale
from nuclei.inference.tiling import predict_strips
from nuclei.instances.confidence import uncertainty_of
from nuclei.instances.measure import in_microns
from nuclei.instances.neighbours import measure_neighbours
from nuclei.slides.bands import MirroredBorder, tiles_of_bands
from nuclei.slides.setup import MAX_DIAMETERS, Setup
from nuclei.slides.tile_nuclei import count_cut, describe_cut, measure_owned

LARGE_PX = 24_000_000  # px above which an image is done in bands; at once it needs 80 bytes each
TILE_PX = 1344  # side of the network's tiles: LiteRT takes some 290 bytes for each of their px
MARGINS = 5  # in a side, at least: of a tile with less core, most would be seen again and again


def is_large(path):
    """Whether an image is so large that it is done in bands. Its head says how large it is."""
    return declared_pixels(path) > LARGE_PX


class FoundInBands(NamedTuple):
    """What a large image became: as `Found`, without the maps.

    Attributes:
        image, intensity, scale, scale_spread, hole_share, kind, uncertainty: as of `Found`.
        labels: (H, W) uint16 or, of more nuclei, int32; 0 background, 1...n.
    """

    image: np.ndarray
    intensity: tuple[float, float]
    labels: np.ndarray
    scale: float
    scale_spread: float | None
    hole_share: float
    kind: str
    uncertainty: float


def decide_setup(image, seen, model, options):
    """The `Setup` of a large image and the spread of its scale, by the rules of smaller images.

    Args:
        image: (H, W, 3) uint8 or uint16.
        seen: the same without its flat border, as the network is to see it.
        model: a `Model`.
        options: an `Options`.
    """
    intensity, scale, spread = intensity_range(image), options.scale_for(model), None
    if scale is None:
        estimate = estimate_scale(model, seen, lambda part: normalise(part, intensity))
        scale, spread = estimate.scale, estimate.spread
    white = white_of(image)
    kind = modality(image)
    setup = Setup(
        key="",
        shape=image.shape[:2],
        seen_shape=Resized(image, scale).shape[:2],
        scale=scale,
        intensity=intensity,
        white=white,
        kind=kind,
        has_dab=kind == "tissue" and has_dab(image, white),
        side_px=min(options.tile_px, max(TILE_PX, MARGINS * model.margin_px)),
        margin_px=model.margin_px,
        multiple_px=model.multiple_px,
        region_px=0,
        overlap_px=int(np.ceil(2 * MAX_DIAMETERS * model.diameter_px / scale)),
    )
    return setup, spread


def find_in_bands(image, model, options):
    """Find and measure the nuclei of an image, without its maps as a whole in memory.

    Args:
        image: (H, W, 3) uint8 or uint16.
        model: a `Model`.
        options: an `Options`.

    Returns:
        (found, table, lines): `FoundInBands`, a DataFrame as of `measure_nuclei`, and lines for the
        user.
    """
    inside = without_flat_border(image)
    seen = image if inside is None else MirroredBorder(image, inside)
    setup, spread = decide_setup(image, seen, model, options)
    model.free_memory()  # the tiles have another shape, and need the memory
    mask = np.ones((1, 1), bool) if inside is None else inside
    separator = options.separator_for(model, setup.scale)
    labels, parts, undecided, probability = np.zeros(setup.shape, np.uint16), [], 0.0, 0.0
    strips = predict_strips(
        model,
        seen if setup.scale == 1 else Resized(seen, setup.scale),
        lambda part: normalise(part, setup.intensity),
        setup.side_px,
        options.batch_size,
    )
    num_nuclei = num_cut = num_found_px = num_kept_px = 0
    for tile, maps in tiles_of_bands(strips, setup):
        place = tile.region.place
        if inside is not None:
            maps *= inside[place][..., None]
        owned = measure_owned(tile, maps, image[place], setup, mask, separator)
        if num_nuclei + len(owned.centroids) > MAX_PNG_LABELS and labels.dtype == np.uint16:
            labels = labels.astype(np.int32)
        pixels = np.flatnonzero(owned.labels)
        labels[place].flat[pixels] = owned.labels.flat[pixels] + num_nuclei
        num_nuclei += len(owned.centroids)
        num_cut += count_cut(owned.labels, tile.region, setup.shape)
        num_found_px += owned.num_found_px
        num_kept_px += owned.num_kept_px
        parts.append((owned.columns, owned.centroids))
        undecided, probability = undecided + owned.undecided, probability + owned.probability
    model.free_memory()  # before pictures of the whole image are drawn
    uncertainty = uncertainty_of(undecided, probability, labels.size)
    hole_share = 1 - num_kept_px / num_found_px if num_found_px else 0.0
    found = FoundInBands(
        image, setup.intensity, labels, setup.scale, spread, hole_share, setup.kind, uncertainty
    )
    return found, join_columns(parts, options.mpp), [describe_cut(num_cut)] if num_cut else []


def join_columns(parts, mpp):
    """One DataFrame of the nuclei of all tiles.

    Args:
        parts: a list of (columns, centroids), as of `measure_owned`, in the order of the ids.
        mpp: µm per pixel, or None.
    """
    import pandas as pd

    columns = {
        name: np.concatenate([columns[name] for columns, _ in parts]) for name in parts[0][0]
    }
    columns["id"] = np.arange(1, len(columns["id"]) + 1)
    centroids = np.concatenate([centroids for _, centroids in parts])
    columns.update(measure_neighbours(centroids, columns["id"]))
    return pd.DataFrame(columns if mpp is None else {**columns, **in_microns(columns, mpp)})
