"""nuclei.images.pairs"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nuclei.files import named
from nuclei.images.annotations import OUTLINE_SUFFIXES
from nuclei.images.labels import Truth
from nuclei.images.masks import read_truth
from nuclei.images.reading import IMAGE_SUFFIXES, read_image


def image_files(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, list[Path]]:
    """Image files of a folder (none where it is missing) by stem, sorted; hidden files and other suffixes pass by."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        suffix = next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), None)
        # A leading dot is how macOS marks its own companions of real files (._a.png), which are no images.
        if suffix and not path.name.startswith(".") and path.is_file():
            found.setdefault(path.name[: -len(suffix)], []).append(path)
    return {stem: found[stem] for stem in sorted(found)}


def find_images(folder, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Image files of a folder: {stem: path}, sorted by stem.

    Raises: FileNotFoundError where the folder is missing, ValueError where it holds no image or one stem twice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{folder} {what}; expected a folder of images ({', '.join(suffixes)})")
    found = image_files(folder, suffixes)
    if not found:
        raise ValueError(f"{folder} holds no image; expected files ending in {', '.join(suffixes)}")
    twice = [" = ".join(path.name for path in paths) for paths in found.values() if len(paths) > 1]
    if twice:
        raise ValueError(f"{folder}: {len(twice)} stem(s) appear more than once ({named(twice)}); keep one of each")
    return {stem: paths[0] for stem, paths in found.items()}


def find_truths(gt_dir, stems: Iterable[str] = ()) -> dict[str, Path]:
    """Truth files of a folder, images or outlines: {stem: path}, sorted by stem.

    stems: of the images. The truth a.ome.tif belongs to the image a.ome.tif, or else to a.png, a.tif and so on.
    Raises: as `find_images`.
    """
    stems = set(stems)
    found = find_images(gt_dir, OUTLINE_SUFFIXES + IMAGE_SUFFIXES)
    for stem in [stem for stem in found if stem.endswith(".ome") and stem not in stems]:
        if stem[:-4] in stems and stem[:-4] not in found:
            found[stem[:-4]] = found.pop(stem)
    return {stem: found[stem] for stem in sorted(found)}


def find_pairs(raw_dir, gt_dir) -> dict[str, tuple[Path, Path]]:
    """Image and truth files that share a stem: {stem: (image, truth)}, sorted by stem. Unpaired files are left out.

    Raises: FileNotFoundError and ValueError as `find_images`; ValueError where no stem is shared.
    """
    images = find_images(raw_dir)
    truths = find_truths(gt_dir, images)
    pairs = {stem: (images[stem], truths[stem]) for stem in images if stem in truths}
    if not pairs:
        raise ValueError(
            f"no pair between {raw_dir} (for example {next(iter(images.values())).name}) and {gt_dir} (for example "
            f"{next(iter(truths.values())).name}); an image and its truth must have the same name before the suffix"
        )
    return pairs


def read_pair(image_path, truth_path) -> tuple[np.ndarray, Truth]:
    """An image and its truth, of one size. Raises: as `read_image` and `read_truth`; ValueError on unequal sizes."""
    image = read_image(image_path)
    truth = read_truth(truth_path, image.shape[:2])
    if image.shape[:2] != truth.labels.shape:
        raise ValueError(
            f"{truth_path} has {truth.labels.shape[0]} x {truth.labels.shape[1]} px (height x width), its image "
            f"{image_path} {image.shape[0]} x {image.shape[1]}; expected equal sizes: export it again at that size"
        )
    return image, truth
