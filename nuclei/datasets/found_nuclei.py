"""The nuclei that a model found in the images of a data set, read from a folder.

    found = find_found("found", {"a", "b"})         # {stem: file}
    labels = read_found(found["a"], "a", shape)     # (H, W) int32

It may be of predict.py or of any other program.
"""

from pathlib import Path

import numpy as np

from nuclei.datasets.pairs import TRUTH_SUFFIXES, find_truths
from nuclei.images.folder import image_files
from nuclei.images.labels import components, read_labels, without_gaps
from nuclei.truth.annotations import OUTLINE_SUFFIXES, read_outlines
from nuclei.truth.arrays import ARRAY_SUFFIXES, read_array
from nuclei.truth.masks import whole_numbers

HOW_TO_FIND = "python predict.py RAW --tta --formats labels --out FOLDER writes label images"


def find_found(found_dir: Path, stems: set[str]) -> dict[str, Path]:
    """{stem: file} of the found nuclei.

    Args:
        found_dir: label images or outlines with the stems of the images; or what predict.py wrote,
            with these in labels/.
        stems: of the images.

    Raises:
        FileNotFoundError, ValueError: there is no such folder, it holds nothing of these stems, or
            two files of one stem.
    """
    folder = found_dir / "labels" if (found_dir / "labels").is_dir() else found_dir
    if not folder.is_dir():
        fault = "is no folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{folder} {fault}; expected a folder of label images or outlines: {HOW_TO_FIND}"
        )
    if not image_files(folder, TRUTH_SUFFIXES):
        raise ValueError(f"{folder} holds no label image and no outlines: {HOW_TO_FIND}")
    found = find_truths(folder, stems)
    if not stems & {*found}:
        raise ValueError(
            f"{folder} has no label image of the name of an image (for example {min(stems)}.png): "
            f"{HOW_TO_FIND}"
        )
    return found


def read_found(path: Path, stem: str, shape: tuple[int, int]) -> np.ndarray:
    """Read the nuclei that were found in an image.

    Args:
        path: of `find_found`.
        stem: of the image.
        shape: its height and width in px.

    Returns:
        (H, W) int32, 0 background, 1...n nuclei without gaps.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read, holds no ids, or is of another size.
    """
    name = path.name.lower()
    if name.endswith(OUTLINE_SUFFIXES):
        labels = read_outlines(path, shape, stem).labels
    else:  # ids as they are: what is void in a truth may be an id here
        is_array = name.endswith(ARRAY_SUFFIXES)
        ids = whole_numbers(read_array(path, shape), path) if is_array else read_labels(path)
        labels = without_gaps(np.maximum(ids, 0))
        if labels.max(initial=0) == 1 and components(labels > 0).max() > 1:
            raise ValueError(
                f"{path} has one value in several places; expected one id for each nucleus: "
                f"{HOW_TO_FIND}"
            )
    if labels.shape != shape:
        raise ValueError(
            f"{path} has {labels.shape} px, its image {shape} (height, width); expected equal sizes"
        )
    return labels
