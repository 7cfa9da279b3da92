"""Divide the binary masks of a data set by the nuclei that a model found in its images.

    result = divide_set("my_data", "found/labels", "my_data_divided")
    result.masks, result.remarks()

The images of validation and test in `split.csv` keep their truth: no model is to be measured by
what a model found.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from nuclei.datasets.divided_mask import DividedMask, divide, is_read_back
from nuclei.datasets.found_nuclei import find_found, read_found
from nuclei.datasets.pairs import find_pairs, find_truths, require_same_size
from nuclei.datasets.split import read_split
from nuclei.datasets.target import Imported
from nuclei.files import copy_file, fault_of, named, plural, replacing
from nuclei.full_disk import DiskFull
from nuclei.images.folder import find_images
from nuclei.images.reading import read_image
from nuclei.images.writing import in_16_bits, write_png
from nuclei.progress import Progress
from nuclei.truth.forms import BINARY, BINARY_LOSSY, Truth
from nuclei.truth.masks import read_truth


@dataclass
class DividedSet(Imported):
    """What became of a data set; see `Imported` for the rest.

    Attributes:
        masks: binary masks that were divided.
        regions_divided: regions that became several nuclei.
        regions_void: regions of which nobody can tell.
        without_found: stems of masks that stay as they are, since nobody looked for nuclei.
        unclear: stems of masks that stay as they are, since their division would be misread.
        without_part: stems that `split.csv` does not name.
        without_image: names in `split.csv` that no image has.
        has_split: whether there is a `split.csv`.
    """

    masks: int = 0
    regions_divided: int = 0
    regions_void: int = 0
    without_found: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    without_part: list[str] = field(default_factory=list)
    without_image: list[str] = field(default_factory=list)
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
        if self.masks and not self.has_split:
            lines.append(
                "Without split.csv all masks are divided. Scores of train.py on some of them then "
                "tell how well a model agrees with the one that divided them"
            )
        return lines

    def faults(self) -> list[str]:
        """What was not done, a line each."""
        lines = super().faults()
        for names, noun, reason in (
            (self.without_found, "mask", "not divided, since no labels have its name"),
            (self.unclear, "mask", "not divided, since it would be misread"),
            (self.without_part, "image", "not divided, since split.csv does not name it"),
            (self.without_image, "name", "in split.csv that no image has"),
        ):
            if names:
                lines.append(f"{plural(len(names), noun)} {reason}: {named(names)}")
        return lines


def divide_set(data_dir, found_dir, out_dir) -> DividedSet:
    """Copy a data set to a new folder, with nuclei in place of the regions of binary masks.

    Truths of other forms are copied as they are. A pair that cannot be read is named in the result,
    and the others are written.

    Args:
        data_dir: holds raw/, gt/ and perhaps split.csv. With it only the images for training are
            divided.
        found_dir: as for `find_found`.
        out_dir: gets raw/, gt/ and split.csv, all at once at the end.

    Raises:
        FileNotFoundError, ValueError: as `find_pairs`, `find_found` and `read_split`; ValueError
            also where `out_dir` holds something.
        DiskFull: there is no space.
    """
    data_dir, out_dir = Path(data_dir), Path(out_dir)
    if os.path.lexists(out_dir) and not (out_dir.is_dir() and not any(out_dir.iterdir())):
        raise ValueError(f"{out_dir} is there already; give --out a new folder, or remove it")
    pairs = find_pairs(data_dir / "raw", data_dir / "gt")
    found = find_found(Path(found_dir), {*pairs})
    result = DividedSet(has_split=os.path.lexists(data_dir / "split.csv"))
    split = read_split(data_dir / "split.csv") if result.has_split else {}
    name_lone_files(data_dir, pairs, split, result)
    with (
        replacing(out_dir) as temporary,
        Progress("Dividing", len(pairs), "pairs", log=True) as progress,
    ):
        if split:
            copy_file(data_dir / "split.csv", temporary / "split.csv")
        for stem, paths in pairs.items():
            progress.add()
            is_to_train = not split or split.get(stem) == "train"
            try:
                write_pair(stem, paths, found.get(stem), is_to_train, temporary, result)
            except (OSError, ValueError) as error:
                if isinstance(error, DiskFull):
                    raise
                result.problems.append(f"{stem}: {fault_of(error)}")
        if not result.images:
            raise ValueError(f"no pair of {data_dir} can be read: {result.problems[0]}")
    return result


def name_lone_files(data_dir: Path, pairs: dict, split: dict[str, str], result: DividedSet) -> None:
    """Tell `result` what has no counterpart among the images, the truths and the split."""
    images = find_images(data_dir / "raw")
    truths = find_truths(data_dir / "gt", images)
    used = {truth_path for _, truth_path in pairs.values()}
    result.images_alone += [path.name for stem, path in images.items() if stem not in pairs]
    result.truths_alone += sorted({path.name for path in truths.values() if path not in used})
    result.without_image += [stem for stem in split if stem not in images]
    result.without_part += [stem for stem in pairs if split and stem not in split]


def write_pair(
    stem: str,
    paths: tuple[Path, Path],
    found_path: Path | None,
    is_to_train: bool,
    out_dir: Path,
    result: DividedSet,
) -> None:
    """Write one pair, and count it in `result`.

    Args:
        stem: of the pair.
        paths: of the image and its truth.
        found_path: of `find_found`; None where there is none.
        is_to_train: whether the truth is divided if it is a binary mask.
        out_dir: gets the two files, with the names that they have.
        result: what counts them.

    Raises:
        FileNotFoundError, ValueError: a file cannot be read or does not fit.
    """
    image_path, truth_path = paths
    image = read_image(image_path)
    truth = read_truth(truth_path, image.shape[:2], stem=stem)
    require_same_size(image_path, image, truth_path, truth)
    mask = None
    if is_to_train and truth.form in (BINARY, BINARY_LOSSY):
        mask = divided_truth(stem, truth, found_path, result)
    copy_file(image_path, out_dir / "raw" / image_path.name)
    if mask is None:
        copy_file(truth_path, out_dir / "gt" / truth_path.name)  # once, if it serves several images
        result.nuclei += int(truth.labels.max(initial=0))
    else:
        write_png(out_dir / "gt" / f"{stem}.png", in_16_bits(mask.labels))
        result.masks += 1
        result.nuclei += mask.num_nuclei
        result.regions_divided += mask.num_divided
        result.regions_void += mask.num_void
    result.images += 1


def divided_truth(
    stem: str, truth: Truth, found_path: Path | None, result: DividedSet
) -> DividedMask | None:
    """Divide a mask; None where it has to stay as it is, which `result` is told.

    Raises:
        FileNotFoundError, ValueError: as `read_found` and `divide`.
    """
    if found_path is None:
        result.without_found.append(stem)
        return None
    mask = divide(truth.labels, read_found(found_path, stem, truth.labels.shape), truth.void)
    if not is_read_back(mask.labels):
        result.unclear.append(stem)
        return None
    return mask
