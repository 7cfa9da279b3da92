"""Pairs of image and ground truth: found in two folders, and read.

`raw/a.jpg` belongs to `gt/a.png`: an image and its truth have the same *stem*, the name before the
suffix.

    for stem, (image_path, truth_path) in find_pairs("data/raw", "data/gt").items():
        image, truth = read_pair(image_path, truth_path)
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nuclei.cli import Notes
from nuclei.files import named
from nuclei.images.folder import find_images
from nuclei.images.reading import IMAGE_SUFFIXES, PICTURE_SUFFIXES, open_image
from nuclei.images.stems import TRUTH_ENDS, bare_stem, stem_of, without_end
from nuclei.truth.annotations import OUTLINE_SUFFIXES
from nuclei.truth.arrays import ARRAY_SUFFIXES
from nuclei.truth.forms import Truth
from nuclei.truth.json_outlines import described_stems
from nuclei.truth.masks import read_truth

TRUTH_SUFFIXES = OUTLINE_SUFFIXES + ARRAY_SUFFIXES + PICTURE_SUFFIXES
SET_SUFFIXES = (".json", ".zip", ".xml")  # of files that may hold the truth of a whole set


@dataclass(frozen=True)
class Reading:
    """How the files of a data set are read.

    Attributes:
        ignore: values of void in the truth, as for `read_truth`.
        channel, plane: what is read of images of several planes, as of `open_image`.
    """

    ignore: tuple[int, ...] = ()
    channel: str | None = None
    plane: str | None = None


AUTOMATIC = Reading()  # everything is recognised


def find_truths(gt_dir, stems: Iterable[str] = ()) -> dict[str, Path]:
    """The truth files of a folder: images, arrays, outlines, or one file for several images.

    A truth belongs to the image of its stem. Where there is none, it belongs to the image that is
    called alike apart from .ome, _img, _masks, _cp_masks, _seg and so on. A file of COCO, VIA or
    CVAT that belongs to no image serves all those that it describes and that have no truth of their
    own.

    Args:
        gt_dir: the folder, or one file of COCO, VIA or CVAT.
        stems: stems of the images.

    Returns:
        {stem: path}, sorted by stem.

    Raises:
        FileNotFoundError, ValueError: as `find_images`; ValueError also where two files describe
            one image.
    """
    stems, gt_dir = set(stems), Path(gt_dir)
    if gt_dir.is_file() and gt_dir.name.lower().endswith(SET_SUFFIXES):
        truths = {stem_of(gt_dir, TRUTH_SUFFIXES): gt_dir}
    else:
        truths = find_images(gt_dir, TRUTH_SUFFIXES)
    images = images_of(truths, stems)
    truths = {images.get(stem, stem): path for stem, path in truths.items()}
    truths |= described_truths(truths, stems)
    return {stem: truths[stem] for stem in sorted(truths)}


def images_of(truths: Iterable[str], stems: set[str]) -> dict[str, str]:
    """Which image each truth belongs to: that of its stem, or else one that is called alike.

    Args:
        truths: stems of truths.
        stems: of images.

    Returns:
        {stem of a truth: stem of its image}, for each image at most one.
    """
    result = {stem: stem for stem in truths if stem in stems}
    others = [stem for stem in truths if stem not in stems]
    images = {without_end(stem): stem for stem in sorted(stems - {*result}, reverse=True)}
    taken = {*result}
    for end in TRUTH_ENDS + ("",):
        for stem in [stem for stem in others if stem not in result and stem.endswith(end)]:
            short = stem.removesuffix(end)
            image = short if short in stems else images.get(short)
            if image is not None and image not in taken:
                result[stem] = image
                taken.add(image)
    return result


def described_truths(truths: dict[str, Path], stems: set[str]) -> dict[str, Path]:
    """The images without a truth of their own that a file for a whole set describes.

    Args:
        truths: {stem: path}; the files that serve a set are taken out of it.
        stems: stems of the images.

    Raises:
        ValueError: two files describe one image.
    """
    result: dict[str, Path] = {}
    for own_stem in [stem for stem in truths if stem not in stems]:
        path = truths[own_stem]
        is_set_file = path.name.lower().endswith(SET_SUFFIXES)
        names = described_stems(path) if is_set_file and stems - {*truths} else []
        described = {image_called(name, stems) for name in names}
        if not described & stems:
            continue
        if repeated := sorted(described & stems & {*result}):
            raise ValueError(
                f"{named(repeated)}: described by {result[repeated[0]]} and by {path}; keep one "
                "truth for each image"
            )
        del truths[own_stem]
        result |= {stem: path for stem in described if stem not in truths}
    return result


def image_called(name: str, stems: set[str]) -> str:
    """The stem among `stems` that a tool calls `name`; `name` itself where there is none."""
    return name if name in stems or bare_stem(name) not in stems else bare_stem(name)


def find_pairs(raw_dir, gt_dir) -> dict[str, tuple[Path, Path]]:
    """The images and truth files that share a stem. Unpaired files are left out.

    Returns:
        {stem: (image path, truth path)}, sorted by stem.

    Raises:
        FileNotFoundError, ValueError: as `find_images`; ValueError also where no stem is shared.
    """
    above = Path(raw_dir).parent
    if not Path(raw_dir).exists() and has_other_folders(above, Path(gt_dir)):
        raise FileNotFoundError(
            f"{raw_dir} does not exist; expected a folder of images there, and their truth under "
            f"the same names in {gt_dir}. Where {above} has other folders, such as images/ and "
            f"masks/: python import_data.py --from {shlex.quote(str(above))} --out NEW_FOLDER"
        )
    images = find_images(raw_dir)
    truths = find_truths(gt_dir, images)
    pairs = {stem: (images[stem], truths[stem]) for stem in images if stem in truths}
    if not pairs:
        raise ValueError(
            f"no pair between {raw_dir} (for example {next(iter(images.values())).name}) and "
            f"{gt_dir} (for example {next(iter(truths.values())).name}); an image and its truth "
            "must have the same name before the suffix, or a COCO, VIA or CVAT file name the images"
        )
    return pairs


def has_other_folders(folder: Path, gt_dir: Path) -> bool:
    """Whether a folder has folders other than that of the truth."""
    return folder.is_dir() and any(
        path.is_dir() and path != gt_dir and not path.name.startswith(".")
        for path in folder.iterdir()
    )


def read_pair(
    image_path, truth_path, reading: Reading = AUTOMATIC, notes: Notes | None = None
) -> tuple[np.ndarray, Truth]:
    """Read an image and its truth, which must have one size.

    Args:
        image_path, truth_path: the two files.
        reading: how they are read.
        notes: is told what was chosen in the file of the image; None tells nobody.

    Returns:
        The image as `open_image` gives it, the truth as `read_truth` does.

    Raises:
        FileNotFoundError, ValueError: as `read_image` and `read_truth`; ValueError also where the
            sizes differ.
    """
    file = open_image(image_path, reading.channel, reading.plane)
    if notes is not None:
        notes.add(Path(image_path).name, *file.notes)
    image = file.image
    stem = stem_of(Path(image_path), IMAGE_SUFFIXES)
    truth = read_truth(truth_path, image.shape[:2], reading.ignore, stem)
    require_same_size(image_path, image, truth_path, truth)
    return image, truth


def require_same_size(image_path, image: np.ndarray, truth_path, truth: Truth) -> None:
    """Raises: ValueError, which names both files, where an image and its truth differ in size."""
    if image.shape[:2] != truth.labels.shape:
        height, width = truth.labels.shape
        raise ValueError(
            f"{truth_path} has {height} x {width} px (height x width), its image {image_path} "
            f"{image.shape[0]} x {image.shape[1]}; expected equal sizes: export it again at that "
            "size"
        )
