"""Layouts of two folders: one of images, one of truths of the same names.

ORGAN/tissue images/A.png, ORGAN/label masks modify/A.tif     NuInsSeg
Slide_01/01_1.png, GT_01/01_1.png                             TNBC
Tissue Images/A.tif, Annotations/A.xml                        MoNuSeg
images/A.png, labels/A.mat or masks/A.tif                     CoNSeP, StarDist's copy of DSB2018
    ->  out/raw/A.png, out/gt/A.tif, both as they are
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from nuclei.archives import is_companion
from nuclei.datasets.pairs import TRUTH_SUFFIXES, require_same_size
from nuclei.datasets.source import Fetch, Members
from nuclei.datasets.target import Imported, Target
from nuclei.files import replacing
from nuclei.images.reading import IMAGE_SUFFIXES, read_image
from nuclei.images.stems import TRUTH_ENDS, stem_of, without_end
from nuclei.truth.masks import read_truth

# Folders of truth beside a folder of images, in lower case. Those that tell nuclei apart come
# first; where nuclei overlap, `label masks` of NuInsSeg number the overlap as one more nucleus.
TRUTHS_BESIDE = {
    "tissue images": ("label masks modify", "label masks", "annotations", "mask binary"),
    "images": ("labels", "masks"),
}
SLIDE = re.compile(r"slide_(\d+)")  # GT_01 belongs to Slide_01


def truths_beside(images: str) -> tuple[str, ...]:
    """The names of the folders that may hold the truth of a folder of images, in lower case."""
    if slide := SLIDE.fullmatch(images.lower()):
        return (f"gt_{slide[1]}",)
    return TRUTHS_BESIDE.get(images.lower(), ())


def folder_pairs(names: Iterable[str]) -> dict[str, Members]:
    """Sort the names of two folders that belong together.

    A folder of images counts where an image in it has a truth. One image beside several masks does
    not: that is the layout of DSB2018.

    Args:
        names: of all files, with "/" between folders.

    Returns:
        {".../images/A": Members}, with one truth or none.
    """
    folders: dict[str, list[str]] = {}
    for name in sorted(names):
        if not is_companion(name):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
    in_lower_case = {folder.lower(): folder for folder in folders}
    result: dict[str, Members] = {}
    for folder, files in folders.items():
        above, _, last = folder.rpartition("/")
        beside = (f"{above}/{kind}".lower() for kind in truths_beside(last))
        found = [folders[in_lower_case[name]] for name in beside if name in in_lower_case]
        result |= next(filter(None, (pairs_of(folder, files, truths) for truths in found)), {})
    return result


def pairs_of(folder: str, images: list[str], truths: list[str]) -> dict[str, Members]:
    """The images of a folder with their truths; empty where none has one, or masks of one image.

    Args:
        folder: of the images.
        images, truths: the names of the files of both folders.
    """
    truths = [name for name in truths if name.lower().endswith(TRUTH_SUFFIXES)]
    by_stem = {stem_of(PurePosixPath(name), TRUTH_SUFFIXES): name for name in truths}
    by_stem = {without_end(stem, TRUTH_ENDS): name for stem, name in by_stem.items()} | by_stem
    result: dict[str, Members] = {}
    for name in images:
        if name.lower().endswith(IMAGE_SUFFIXES):
            stem = stem_of(PurePosixPath(name), IMAGE_SUFFIXES)
            pair = result.setdefault(f"{folder}/{stem}", Members([], []))
            pair.images.append(name)
            pair.truths[:] = [by_stem[stem]] if stem in by_stem else []
    has_pairs = any(pair.truths for pair in result.values())
    return result if has_pairs and not (len(result) == 1 and len(truths) > 1) else {}


def import_pair(stem: str, files: Members, fetch: Fetch, target: Target, result: Imported) -> None:
    """Copy one image and its truth into the target, and count them in `result`.

    Raises:
        FileNotFoundError, ValueError: one of them cannot be read, or their sizes differ.
    """
    image_name, truth_name = files.images[0], files.truths[0]
    image = read_image(fetch(image_name))
    suffixes = [Path(image_name).suffix.lower(), truth_suffix(truth_name)]
    paths = target.paths_to_write(stem, image, *suffixes)
    if not paths:
        result.images_already_there += 1
        return
    truth = read_truth(fetch(truth_name), image.shape[:2], stem=stem)
    require_same_size(image_name, image, truth_name, truth)
    names = {"raw": image_name, "gt": truth_name}
    for part, path in paths.items():
        with replacing(path) as temporary:
            shutil.copyfile(fetch(names[part]), temporary)
    target.keep_only(stem, paths)
    result.images += 1
    result.nuclei += int(truth.labels.max(initial=0))


def truth_suffix(name: str) -> str:
    """The suffix of a truth in lower case, such as .geojson.gz."""
    return next(suffix for suffix in TRUTH_SUFFIXES if name.lower().endswith(suffix))
