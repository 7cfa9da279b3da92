"""Test-time augmentation: the network sees an image at several sizes, and mirrored.

    model = with_zooms(model)       # maps (B, h, w, 3 K): of each size, one after the other
    separator.separate(maps, scale)         # chooses among the nuclei that each size shows

A nucleus that is merged or missed at one size may be whole at another. A mean of the maps would
blur both, so all are kept, and nuclei.instances.separator takes the more confident nuclei.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from nuclei.images.resize import Resized, resize_maps
from nuclei.model_file import Model
from unet import network_geometry

# Quarters, so that at every size a tile begins where pooling does.
ZOOMS = (1.0, 0.75, 1.25)  # the first is the size that the network was trained for
MULTIPLE = 4  # so many multiples of a network are whole multiples at every zoom
INTERPOLATION_PX = 4  # that a resized pixel may reach beyond the margin


def tile_geometry(architecture: dict, tta: bool) -> dict[str, int]:
    """The `network_geometry` of a model, as its tiles have it with `tta` or without."""
    geometry = network_geometry(architecture)
    return zoomed_geometry(**geometry, zooms=ZOOMS) if tta else geometry


def zoomed_geometry(margin: int, multiple: int, zooms: tuple[float, ...]) -> dict[str, int]:
    """The geometry of a network that sees each tile at several sizes, too."""
    margin = int(np.ceil((margin + INTERPOLATION_PX) / min(zooms)))
    return {"margin": margin, "multiple": MULTIPLE * multiple}


def with_zooms(model: Model, zooms: tuple[float, ...] = ZOOMS) -> Model:
    """A model that sees each image at several sizes, and each of these mirrored, too.

    Args:
        model: that sees an image at one size.
        zooms: sizes, multiples of 0.25 of which the first is 1.

    Returns:
        A `Model` whose network takes the same images and returns the maps of all zooms.
    """
    network, num_maps = mirrored(model.network), len(zooms) * model.num_maps
    geometry = zoomed_geometry(model.margin_px, model.multiple_px, zooms)
    return replace(
        model,
        network=lambda batch: np.concatenate([zoomed(network, batch, z) for z in zooms], -1),
        num_maps=num_maps,
        margin_px=geometry["margin"],
        multiple_px=geometry["multiple"],
        zooms=zooms,
    )


def zoomed(network: Callable, batch, zoom: float) -> np.ndarray:
    """The maps (B, h, w, K) of a batch (B, h, w, C) that the network sees at another size."""
    if zoom == 1:
        return network(batch)
    size = tuple(round(length * zoom) for length in batch.shape[1:3])
    seen = np.stack([Resized(image, size=size)[: size[0], : size[1]] for image in batch])
    return np.stack([resize_maps(maps, batch.shape[1:3]) for maps in network(seen)])


def mirrored(network: Callable) -> Callable:
    """Average a network over its input and the mirror image of it.

    Args:
        network: from (B, h, w, C) float32 to (B, h, w, K) float32.

    Returns:
        A function of the same shapes, which takes twice as long.

    References:
        Moshkov et al. 2020, "Test-time augmentation for deep learning-based cell segmentation on
        microscopy images".
    """

    def averaged(batch):
        mirror_image = np.asarray(network(np.ascontiguousarray(batch[:, :, ::-1])))
        return (np.asarray(network(batch)) + mirror_image[:, :, ::-1]) / np.float32(2)

    return averaged
