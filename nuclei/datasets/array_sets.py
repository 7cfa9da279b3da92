"""Bring sets in that lie in two arrays, one for all images and one for all truths.

images.npy (N, H, W, 3), masks.npy (N, H, W, 6)     PanNuke, one folder for each fold
images.npy (N, H, W, 3), labels.npy (N, H, W, 2)    CoNIC
    ->  out/raw/FOLDER_00000.png, out/gt/FOLDER_00000.png with 16-bit ids
"""

from pathlib import Path

import numpy as np

from nuclei.datasets.dsb2018 import Imported, Target
from nuclei.files import explaining_damage, first_line
from nuclei.full_disk import DiskFull
from nuclei.images.labels import without_gaps
from nuclei.images.writing import in_16_bits, write_png
from nuclei.progress import Progress
from nuclei.truth.arrays import ids_of

TRUTH_NAMES = ("masks.npy", "labels.npy")


def array_sets(source) -> list[tuple[Path, Path]]:
    """The pairs of arrays of a folder and of the folders in it: (images.npy, its truth)."""
    result = []
    found = sorted(Path(source).rglob("images.npy")) if Path(source).is_dir() else ()
    for images in (path for path in found if path.is_file()):
        beside = images.relative_to(source).parent
        # PanNuke: Fold 1/images/fold1/images.npy and Fold 1/masks/fold1/masks.npy.
        parallel = Path(source, *("masks" if part == "images" else part for part in beside.parts))
        candidates = [folder / name for folder in (images.parent, parallel) for name in TRUTH_NAMES]
        result += [(images, path) for path in candidates if path.is_file()][:1]
    return result


def import_array_sets(source, out_dir, overwrite: bool = False) -> Imported:
    """Bring the arrays of a folder into `out_dir/raw` and `out_dir/gt`.

    Stems that are already there stay as they are, unless `overwrite`.

    Raises:
        ValueError: a file is no array, or two arrays do not belong together.
    """
    out_dir, result = Path(out_dir), Imported()
    target = Target.of(out_dir, overwrite)
    for images_path, truth_path in array_sets(source):
        images, truths = opened(images_path), opened(truth_path)
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
                stem = f"{images_path.resolve().parent.name}_{index:05d}"
                if target.keeps(stem):
                    result.images_already_there += 1
                    continue
                try:
                    image = image * 255 if is_up_to_one else image
                    import_one(stem, image, ids_of(truth, truth_path), target, result)
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


def import_one(stem: str, image, ids, target: Target, result: Imported) -> None:
    """Write one image (H, W, 3) of values 0...255 and its ids (H, W).

    Raises:
        ValueError: the values are others.
    """
    image, labels = np.asarray(image), np.asarray(ids)
    if image.size and not (image.min() >= 0 and image.max() <= 255):
        raise ValueError(f"pixels of {image.min()}...{image.max()}; expected 0...255")
    if not (np.isfinite(labels).all() and labels.min() >= 0):
        raise ValueError("ids that are negative or not finite")
    labels = without_gaps(labels.astype(np.int64))
    arrays = {"raw": np.rint(image).astype(np.uint8), "gt": in_16_bits(labels)}
    paths = target.paths_to_write(stem, ".png", arrays["raw"])
    for part, path in paths.items():
        write_png(path, arrays[part])
    target.keep_only(stem, paths)
    result.images += 1
    result.nuclei += int(labels.max(initial=0))
