"""Files with several channels, focal planes or pages, drawn for tests."""

import numpy as np
import tifffile
from scipy import ndimage
from synthetic import draw


def nuclei_and_others(height=160, width=180, seed=0):
    """(nuclei, cytoplasm, spots, empty, labels): channels of one field, (H, W) uint8 each."""
    shape = {"num_nuclei": 16, "diameter": 18, "touching": 0, "seed": seed}
    image, labels = draw("fluorescence", height, width, **shape)
    rng = np.random.default_rng(seed)

    def noisy(signal):
        return np.clip(signal + rng.normal(12, 2, labels.shape), 0, 255).astype(np.uint8)

    cells = ndimage.binary_dilation(labels > 0, iterations=9)
    cytoplasm = noisy(140 * ndimage.gaussian_filter((cells & (labels == 0)).astype(float), 1.2))
    points = np.zeros(labels.shape)
    points[rng.integers(0, height, 80), rng.integers(0, width, 80)] = 1
    spots = noisy(900 * ndimage.gaussian_filter(points, 1.2))
    grey = image[..., 1] if image.ndim == 3 else image
    return np.ascontiguousarray(grey), cytoplasm, spots, noisy(np.zeros(labels.shape)), labels


def focal_planes(sharp, sigmas=(4.0, 0.0, 2.5)):
    """A z-stack (Z, H, W) of which one plane is in focus."""
    planes = [ndimage.gaussian_filter(sharp.astype(float), sigma) for sigma in sigmas]
    return np.stack(planes).round().astype(sharp.dtype)


def write_ome(path, array, axes, names=(), **metadata):
    """Write an OME-TIFF with named channels."""
    if names:
        metadata["Channel"] = {"Name": list(names)}
    metadata = {"axes": axes, **metadata}
    tifffile.imwrite(path, array, photometric="minisblack", metadata=metadata, ome=True)
    return path
