"""Find the images of a folder, their ground truth, and read both as pairs.

`raw/a.jpg` belongs to `gt/a.png`: an image and its truth have the same *stem*, the name before the
suffix.

    for stem, (image_path, truth_path) in find_pairs("data/raw", "data/gt").items():
        image, truth = read_pair(image_path, truth_path)
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nuclei.files import named
from nuclei.images.annotations import OUTLINE_SUFFIXES
from nuclei.images.labels import Truth
from nuclei.images.masks import read_truth
from nuclei.images.reading import IMAGE_SUFFIXES, read_image


def image_files(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, list[Path]]:
    """The files of a folder that end in one of `suffixes`.

    Returns:
        {stem: paths}, sorted; empty where the folder is missing. Hidden files are left out.
    """
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), None)
        # macOS writes companions of real files with a leading dot (._a.png); they are no images.
        if suffix and not path.name.startswith(".") and path.is_file():
            files.setdefault(path.name[: -len(suffix)], []).append(path)
    return {stem: files[stem] for stem in sorted(files)}


def find_images(folder, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """The image files of a folder.

    Returns:
        {stem: path}, sorted by stem.

    Raises:
        FileNotFoundError: the folder is missing.
        ValueError: it holds no image, or one stem twice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        fault = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(
            f"{folder} {fault}; expected a folder of images ({', '.join(suffixes)})"
        )
    files = image_files(folder, suffixes)
    if not files:
        raise ValueError(f"{folder} holds no image; expected files ending in {', '.join(suffixes)}")
    repeated = [
        " = ".join(path.name for path in paths) for paths in files.values() if len(paths) > 1
    ]
    if repeated:
        raise ValueError(
            f"{folder}: {len(repeated)} stem(s) appear more than once ({named(repeated)}); keep "
            "one of each"
        )
    return {stem: paths[0] for stem, paths in files.items()}


def find_truths(gt_dir, stems: Iterable[str] = ()) -> dict[str, Path]:
    """The truth files of a folder, images or outlines.

    Args:
        gt_dir: the folder.
        stems: stems of the images. The truth a.ome.tif belongs to the image a.ome.tif where there
            is one, or else to a.png, a.tif and so on.

    Returns:
        {stem: path}, sorted by stem.

    Raises:
        FileNotFoundError, ValueError: as `find_images`.
    """
    stems = set(stems)
    truths = find_images(gt_dir, OUTLINE_SUFFIXES + IMAGE_SUFFIXES)
    for stem in [stem for stem in truths if stem.endswith(".ome") and stem not in stems]:
        short = stem.removesuffix(".ome")
        if short in stems and short not in truths:
            truths[short] = truths.pop(stem)
    return {stem: truths[stem] for stem in sorted(truths)}


def find_pairs(raw_dir, gt_dir) -> dict[str, tuple[Path, Path]]:
    """The images and truth files that share a stem. Unpaired files are left out.

    Returns:
        {stem: (image path, truth path)}, sorted by stem.

    Raises:
        FileNotFoundError, ValueError: as `find_images`; ValueError also where no stem is shared.
    """
    images = find_images(raw_dir)
    truths = find_truths(gt_dir, images)
    pairs = {stem: (images[stem], truths[stem]) for stem in images if stem in truths}
    if not pairs:
        raise ValueError(
            f"no pair between {raw_dir} (for example {next(iter(images.values())).name}) and "
            f"{gt_dir} (for example {next(iter(truths.values())).name}); an image and its truth "
            "must have the same name before the suffix"
        )
    return pairs


def read_pair(image_path, truth_path) -> tuple[np.ndarray, Truth]:
    """Read an image and its truth, which must have one size.

    Returns:
        The image as `read_image` gives it, the truth as `read_truth` does.

    Raises:
        FileNotFoundError, ValueError: as `read_image` and `read_truth`; ValueError also where the
            sizes differ.
    """
    image = read_image(image_path)
    truth = read_truth(truth_path, image.shape[:2])
    if image.shape[:2] != truth.labels.shape:
        height, width = truth.labels.shape
        raise ValueError(
            f"{truth_path} has {height} x {width} px (height x width), its image {image_path} "
            f"{image.shape[0]} x {image.shape[1]}; expected equal sizes: export it again at that "
            "size"
        )
    return image, truth
