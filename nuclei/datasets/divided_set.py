"""Divide the binary masks of a data set by the nuclei that a model found in its images.

    result = divide_set("my_data", "found/labels", "my_data_divided")
    result.masks, result.remarks()

The images of validation and test in `split.csv` keep their truth: no model is to be measured by
what a model found.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nuclei.datasets.divided_mask import VOID, DividedMask, divide
from nuclei.datasets.pairs import TRUTH_SUFFIXES, find_pairs, find_truths, require_same_size
from nuclei.datasets.split import read_split
from nuclei.datasets.target import Imported, Target
from nuclei.files import copy_file, fault_of, named, plural
from nuclei.full_disk import DiskFull
from nuclei.images.reading import IMAGE_SUFFIXES, read_image
from nuclei.images.stems import suffix_of
from nuclei.images.writing import in_16_bits, write_png
from nuclei.progress import Progress
from nuclei.truth.forms import BINARY, BINARY_LOSSY, Truth
from nuclei.truth.masks import read_truth
from nuclei.truth.values import exact_values

HOW_TO_FIND = "python predict.py RAW --tta --formats labels --out FOLDER writes them"


@dataclass
class DividedSet(Imported):
    """What became of a data set; see `Imported` for the rest.

    Attributes:
        masks: binary masks that were divided.
        regions_divided: regions that became several nuclei.
        regions_void: regions of which nobody can tell.
        without_found: stems of masks that stay as they are, since nobody looked for nuclei there.
        unclear: stems of masks that stay as they are, since nearly all would be void.
        has_split: whether a table says which images validate.
    """

    masks: int = 0
    regions_divided: int = 0
    regions_void: int = 0
    without_found: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    has_split: bool = False

    def __str__(self) -> str:
        return (
            f"{super().__str__()}; {plural(self.masks, 'mask')} divided: "
            f"{plural(self.regions_divided, 'region')} into several nuclei, {self.regions_void:,} "
            "void"
        )

    def remarks(self) -> list[str]:
        """What the user should know beside the numbers, a line each."""
        lines = super().remarks()
        for stems, reason in (
            (self.without_found, "there are no labels for them"),
            (self.unclear, "nearly all would be void"),
        ):
            if stems:
                masks = plural(len(stems), "mask")
                lines.append(f"Not divided, since {reason}: {masks} ({named(stems)})")
        if self.masks and not self.has_split:
            lines.append(
                "Without split.csv all masks are divided. Scores of train.py on some of them then "
                "tell how well a model agrees with the one that divided them"
            )
        return lines


def divide_set(data_dir, found_dir, out_dir, overwrite: bool = False, ignore=()) -> DividedSet:
    """Copy a data set to another folder, with nuclei in place of the regions of binary masks.

    Truths of other forms are copied as they are. Pairs that are already there stay, unless
    `overwrite`. A pair that cannot be read is named in the result, and the others are written.

    Args:
        data_dir: holds raw/, gt/ and perhaps split.csv.
        found_dir: label images of found nuclei, with the stems of the images; or what predict.py
            wrote, with these in labels/.
        out_dir: gets raw/, gt/ and the split.
        overwrite: whether pairs that are there are replaced.
        ignore: values of void in the masks, as for `read_truth`.

    Raises:
        FileNotFoundError, ValueError: as `find_pairs`, `found_labels` and `read_split`; ValueError
            also where `out_dir` is `data_dir`.
    """
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    if out_dir.resolve() == data_dir.resolve():
        raise ValueError(f"{out_dir} holds the masks themselves; give --out another folder")
    pairs = find_pairs(data_dir / "raw", data_dir / "gt")
    found = found_labels(Path(found_dir), {*pairs})
    split_path = data_dir / "split.csv"
    split = read_split(split_path) if split_path.exists() else {}
    target, result = Target.of(out_dir, overwrite, pairs), DividedSet(has_split=bool(split))
    with Progress("Dividing", len(pairs), "pairs", log=True) as progress:
        for stem, paths in pairs.items():
            progress.add()
            try:
                image = read_image(paths[0])
                truth = read_truth(paths[1], image.shape[:2], ignore, stem)
                require_same_size(paths[0], image, paths[1], truth)
                mask = None
                if truth.form in (BINARY, BINARY_LOSSY) and split.get(stem, "train") == "train":
                    mask = divided_truth(stem, truth, found.get(stem), result)
                num_nuclei = mask.num_nuclei if mask else int(truth.labels.max(initial=0))
                write_pair(stem, image, paths, mask, num_nuclei, target, result)
            except (OSError, ValueError) as error:
                if isinstance(error, DiskFull):
                    raise
                result.problems.append(f"{stem}: {fault_of(error)}")
    if split and (overwrite or not (out_dir / "split.csv").exists()):
        copy_file(split_path, out_dir / "split.csv")
    return result


def found_labels(found_dir: Path, stems: set[str]) -> dict[str, Path]:
    """{stem: label image} of the found nuclei.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no labels of these stems.
    """
    folder = found_dir / "labels" if (found_dir / "labels").is_dir() else found_dir
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; expected a folder of label images: {HOW_TO_FIND}"
        )
    found = find_truths(folder, stems)
    if not stems & {*found}:
        raise ValueError(
            f"{folder} has no label image of the name of an image (for example {min(stems)}.png): "
            f"{HOW_TO_FIND}"
        )
    return found


def divided_truth(
    stem: str, truth: Truth, found_path: Path | None, result: DividedSet
) -> DividedMask | None:
    """Divide the mask of an image; None where it stays as it is, which `result` is told.

    Raises:
        FileNotFoundError, ValueError: the found nuclei cannot be read, or are no ids.
    """
    if found_path is None:
        result.without_found.append(stem)
        return None
    found = read_truth(found_path, truth.labels.shape, stem=stem)
    if found.labels.shape != truth.labels.shape:
        raise ValueError(
            f"{found_path} has {found.labels.shape} px, the mask {truth.labels.shape} (height, "
            "width); expected equal sizes"
        )
    if found.form in (BINARY, BINARY_LOSSY) and found.labels.max() > 1:
        raise ValueError(
            f"{found_path} is a mask of two values; expected one id for each nucleus: {HOW_TO_FIND}"
        )
    mask = divide(truth.labels, found.labels)
    if truth.void is not None:
        mask.labels[truth.void] = VOID
    if not is_void_told(mask.labels):
        result.unclear.append(stem)
        return None
    return mask


def is_void_told(labels: np.ndarray) -> bool:
    """Whether `read_truth` takes the pixels of VOID for void, and not for a nucleus."""
    has_void = (labels == VOID).any()
    return not has_void or exact_values(labels).void_names == (str(VOID),)


def write_pair(
    stem: str,
    image: np.ndarray,
    paths: tuple[Path, Path],
    mask: DividedMask | None,
    num_nuclei: int,
    target: Target,
    result: DividedSet,
) -> None:
    """Write one pair, and count it in `result`.

    Args:
        stem: of the pair.
        image: (H, W, 3), as read.
        paths: of the image and its truth.
        mask: is written in place of the truth; None copies the truth.
        num_nuclei: of the mask or truth.
        target: gets the pair.
        result: what counts it.
    """
    image_path, truth_path = paths
    truth_suffix = ".png" if mask else suffix_of(truth_path, TRUTH_SUFFIXES)
    missing = target.paths_to_write(
        stem, image, suffix_of(image_path, IMAGE_SUFFIXES), truth_suffix
    )
    if not missing:
        result.images_already_there += 1
        return
    if "raw" in missing:
        copy_file(image_path, missing["raw"])
    if "gt" in missing and mask is None:
        copy_file(truth_path, missing["gt"])
    elif "gt" in missing:
        write_png(missing["gt"], in_16_bits(mask.labels))
        result.masks += 1
        result.regions_divided += mask.num_divided
        result.regions_void += mask.num_void
    target.finish(stem, missing, num_nuclei, result)
