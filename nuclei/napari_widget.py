"""The widget of napari: it finds the nuclei of the image that is chosen, as a layer of labels.

napari.json tells napari of it; napari makes the widget from the arguments of `find`. Nothing here
imports napari, and nothing else in the project knows of it.
"""

import functools

import numpy as np


@functools.cache
def model_of(path: str):
    """The model of a file, loaded once; "" takes the user's own, else the shipped one."""
    from nuclei import load_model

    return load_model(path or None)


def find(
    image: "napari.types.ImageData",  # noqa: F821, napari reads the names as text
    um_per_px: float = 0.0,
    threshold: float = 0.0,
    model: str = "",
) -> "napari.types.LabelsData":  # noqa: F821
    """Find the nuclei of an image.

    Args:
        image: (H, W) or (H, W, 3) array.
        um_per_px: micrometres per pixel; 0 estimates the size of the nuclei.
        threshold: probability above which a pixel is nucleus; 0 takes the model's.
        model: a model file, or "shipped"; "" takes your own, else the shipped one.

    Returns:
        (H, W) int32 labels, a new layer of napari; its tools correct them.

    Raises:
        ValueError: as `find_nuclei`.
    """
    from nuclei import Options, find_nuclei

    options = Options(mpp=um_per_px or None, threshold=threshold or None)
    return find_nuclei(np.asarray(image), model_of(model), options).labels
