"""Bring sets in that lie in two arrays, one for all images and one for all truths.

images.npy (N, H, W, 3), masks.npy (N, H, W, 6)     PanNuke, one folder for each fold
images.npy (N, H, W, 3), labels.npy (N, H, W, 2)    CoNIC
    ->  out/raw/FOLDER_00000.png, out/gt/FOLDER_00000.png with 16-bit ids
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nuclei.datasets.source import files_below
from nuclei.datasets.target import Imported, Target
from nuclei.files import explaining_damage, first_line
from nuclei.full_disk import DiskFull
from nuclei.images.labels import without_gaps
from nuclei.images.stems import normal
from nuclei.images.writing import in_16_bits, write_png
from nuclei.progress import Progress
from nuclei.truth.arrays import ids_of

TRUTH_NAMES = ("masks.npy", "labels.npy")


def array_sets(source) -> dict[Path, Path | None]:
    """{images.npy: its truth, or None} of a folder and those in it; `Images` counts as `images`."""
    arrays = sorted(path for path in files_below(Path(source)) if path.suffix == ".npy")
    arrays = [path for path in arrays if path.is_file()]
    in_lower_case = {str(path).lower(): path for path in arrays}
    result = {}
    for images in (path for path in arrays if path.name.lower() == "images.npy"):
        beside = images.relative_to(source).parent.parts
        # PanNuke: Fold 1/images/fold1/images.npy and Fold 1/masks/fold1/masks.npy.
        parallel = Path(source, *("masks" if is_images(part) else part for part in beside))
        places = [folder / name for folder in (images.parent, parallel) for name in TRUTH_NAMES]
        found = [path for path in places if path in arrays]
        found += [in_lower_case.get(str(path).lower()) for path in places]
        result[images] = next(filter(None, found), None)
    return result


def is_images(part: str) -> bool:
    """Whether a folder is called images, which does not tell one set from another."""
    return part.lower() == "images"


def names_of(sets: Iterable[Path]) -> dict[Path, str]:
    """{images.npy: what the stems of its images begin with}: the last folder but one of `images`.

    Raises:
        ValueError: two of them would have the same.
    """
    result, first = {}, {}
    for images in sets:
        parts = [part for part in images.resolve().parent.parts[1:] if not is_images(part)]
        result[images] = normal(parts[-1] if parts else "images")
        other = first.setdefault(result[images].lower(), images)  # some disks do not tell A from a
        if other != images:
            raise ValueError(
                f"{other} and {images} would both give {result[images]}_00000; expected folders of "
                "different names: rename one, or import each into an --out of its own"
            )
    return result


def import_array_sets(source, out_dir, overwrite: bool = False) -> Imported:
    """Bring the arrays of a folder into `out_dir/raw` and `out_dir/gt`.

    Pairs that are already there stay as they are, unless `overwrite`. Images whose truth is missing
    are named in the result, and so is one that cannot be brought in.

    Raises:
        ValueError: a file is no array, two arrays do not belong together, or two sets would give
            images of the same names.
    """
    out_dir, result, sets = Path(out_dir), Imported(), array_sets(source)
    names = names_of(images for images, truth in sets.items() if truth)
    target = Target.of(out_dir, overwrite)
    for images_path, truth_path in sets.items():
        if truth_path is None:
            with contextlib.suppress(OSError, ValueError):  # nobody needs to read it
                images = opened(images_path)
                num_images = len(images) if images.ndim else 0
                result.images_alone += [f"{images_path}[{index}]" for index in range(num_images)]
            continue
        images = opened(images_path)
        truths = opened(truth_path)
        if images.ndim != 4 or images.shape[3] != 3 or images.shape[:3] != truths.shape[:3]:
            raise ValueError(
                f"{images_path} has the shape {images.shape} and {truth_path} {truths.shape}; "
                "expected (N, H, W, 3) and (N, H, W, channels) of the same N, H and W"
            )
        # Decided for all images: one may be dark. PanNuke's floats end this at the first image.
        is_up_to_one = images.dtype.kind == "f" and not any((image > 1).any() for image in images)
        with Progress("Importing", len(images), "images") as progress:
            for index, (image, truth) in enumerate(zip(images, truths, strict=True)):
                progress.add()
                stem = f"{names[images_path]}_{index:05d}"
                try:
                    image = image * 255 if is_up_to_one else image
                    import_one(stem, image, (truth, truth_path), target, result)
                except (OSError, ValueError) as error:
                    if isinstance(error, DiskFull):
                        raise
                    result.problems.append(f"{stem}: {first_line(error)}")
    return result


def opened(path: Path) -> np.ndarray:
    """An array of numbers, read from the disk where it is used: PanNuke's have 20 GB.

    Raises:
        ValueError: it is no such file.
    """

    def damage(_):  # NumPy's own words on a damaged head name objects of Python
        return "is no array of numbers that can be read; expected one .npy file"

    with explaining_damage(path, damage):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise ValueError(f"{path} is no array of numbers; expected one .npy file")
    return array


def import_one(stem: str, image, truth: tuple, target: Target, result: Imported) -> None:
    """Bring one image and its truth into the target and count them in `result`.

    Args:
        image: (H, W, 3) of values 0...255.
        truth: what `ids_of` takes: an array, and the path that it came from.

    Raises:
        ValueError: the values are others, or another image of this name is there.
    """
    image = np.asarray(image)
    if image.size and not (image.min() >= 0 and image.max() <= 255):
        raise ValueError(f"pixels of {image.min()}...{image.max()}; expected 0...255")
    image = np.rint(image).astype(np.uint8)
    paths = target.paths_to_write(stem, image, ".png")
    if not paths:
        result.images_already_there += 1
        return
    labels = np.asarray(ids_of(*truth))
    if not (np.isfinite(labels).all() and labels.min() >= 0):
        raise ValueError("ids that are negative or not finite")
    labels = without_gaps(labels.astype(np.int64))
    arrays = {"raw": image, "gt": in_16_bits(labels)}
    for part, path in paths.items():
        write_png(path, arrays[part])
    target.finish(stem, paths, int(labels.max(initial=0)), result)
