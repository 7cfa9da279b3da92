"""The ground truth of one image, `Truth`, and the forms in which it is found in files.

    truth = read_truth("data/gt/a.png")         # of nuclei.truth.masks
    truth.labels, truth.form                    # (H, W) int32, INSTANCES

Whatever a file holds, a `Truth` has one id for each nucleus.
"""

from typing import NamedTuple

import numpy as np

# Forms of ground truth. Users see these words; they are also the keys of "truth" in a model's
# settings, where train.py counts its pairs by form.
BINARY = "binary"  # nucleus or background: touching nuclei are one
BINARY_LOSSY = "binary (lossy JPEG)"  # the same, thresholded after JPEG: its edges are not exact
INSTANCES = "instances"  # one id or one outline per nucleus
INSTANCE_COLOURS = "instance colours"  # one colour per nucleus
FEW_VALUES = "few values"  # each value in many places: touching nuclei of one value are one
EMPTY = "empty"  # an image without nuclei


class Truth(NamedTuple):
    """The ground truth of one image, one id per nucleus, and how it was understood.

    Attributes:
        labels: (H, W) int32, 0 background, 1...n nuclei without gaps.
        form: BINARY, BINARY_LOSSY, INSTANCES, INSTANCE_COLOURS, FEW_VALUES or EMPTY.
        repaired: share of pixels, 0...1, that held neither the background nor the nucleus value
            (JPEG noise, soft edges, stray pixels).
        left_out: objects of the file that are not in the labels, in words and counts; "" for none.
        void: (H, W) bool, the pixels that are neither nucleus nor background; None without any.
        meaning: what each value was taken for, in words; "" where it goes without saying.
        warning: why the truth may be wrong, in words; "" where nothing speaks against it.
    """

    labels: np.ndarray
    form: str
    repaired: float = 0.0
    left_out: str = ""
    void: np.ndarray | None = None
    meaning: str = ""
    warning: str = ""
