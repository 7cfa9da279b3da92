"""Immunostained images for tests: blue nuclei, of which some are brown, on pale tissue."""

import numpy as np
from scipy import ndimage
from synthetic import draw

# Optical densities of red, green and blue (Ruifrok & Johnston 2001).
BLUE, PINK, BROWN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)
WHITE = {np.uint8: 255, np.uint16: 4095}


def stained(densities, dtype=np.uint8):
    """Grey levels of optical densities (H, W, 3)."""
    return np.round(WHITE[dtype] * 10.0**-densities).astype(dtype)


def immunostained(share=0.4, dab_od=0.5, size=(110, 140), diameter=16, seed=0, dtype=np.uint8):
    """Nuclei counterstained with haematoxylin; a share of them has DAB.

    Returns:
        (image, labels, is_brown): (H, W, 3), (H, W) int32, (n,) bool.
    """
    _, labels = draw("tissue", *size, num_nuclei=20, diameter=diameter, seed=seed, touching=0)
    random = np.random.default_rng(seed)
    num_nuclei = int(labels.max())
    is_brown = np.arange(num_nuclei) < round(share * num_nuclei)
    random.shuffle(is_brown)
    blue = np.r_[0.03, np.where(is_brown, 0.1, random.uniform(0.2, 0.6, num_nuclei))][labels]
    brown = np.r_[0.02, np.where(is_brown, random.uniform(0.8, 1.4, num_nuclei) * dab_od, 0.0)]
    brown = brown[labels]
    blue, brown = (ndimage.gaussian_filter(amount, 0.7) for amount in (blue, brown))
    densities = blue[..., None] * np.array(BLUE) + brown[..., None] * np.array(BROWN)
    densities += random.normal(0, 0.01, densities.shape)
    return stained(np.maximum(densities, 0), dtype), labels, is_brown
