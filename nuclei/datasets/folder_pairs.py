"""Layouts of two folders: one of images, one of truths of the same names.

ORGAN/tissue images/A.png, ORGAN/label masks modify/A.tif     NuInsSeg
Slide_01/01_1.png, GT_01/01_1.png                             TNBC
Tissue Images/A.tif, Annotations/A.xml                        MoNuSeg, the training part
images/A.png, labels/A.mat or masks/A.tif                     CoNSeP, StarDist's copy of DSB2018
images/train/A.png, masks/train/A.png
    ->  out/raw/A.png, out/gt/A.tif, both as they are
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from nuclei.archives import is_companion
from nuclei.datasets.pairs import TRUTH_SUFFIXES, images_of, require_same_size
from nuclei.datasets.source import Fetch, Members
from nuclei.datasets.target import Imported, Target
from nuclei.files import copy_file
from nuclei.images.reading import IMAGE_SUFFIXES, read_image
from nuclei.images.stems import stem_of, suffix_of
from nuclei.truth.masks import read_truth

# Folders of truth beside a folder of images, in lower case. Those that tell nuclei apart come
# first; where nuclei overlap, `label masks` of NuInsSeg number the overlap as one more nucleus.
TRUTHS_BESIDE = {
    "tissue images": ("label masks modify", "label masks", "annotations", "mask binary"),
    "images": ("labels", "masks"),
    "image": ("label", "mask"),
}
# Folders that are named where their images are missing. Not those of NuInsSeg: its `vague areas`
# holds a `mask binary`, too.
TRUTH_FOLDER = re.compile(r"labels?|masks?|gt_\d+")
SLIDE = re.compile(r"slide_(\d+)")  # GT_01 belongs to Slide_01


def truths_beside(images: str) -> tuple[str, ...]:
    """The names of the folders that may hold the truth of a folder of images, in lower case."""
    if slide := SLIDE.fullmatch(images.lower()):
        return (f"gt_{slide[1]}",)
    return TRUTHS_BESIDE.get(images.lower(), ())


def by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    """{folder: the names of its files}, sorted, without what systems leave beside files."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        if not is_companion(name):
            folders[name.rpartition("/")[0]].append(name)
    return dict(folders)


def truth_folders(folders: Iterable[str]) -> dict[str, list[str]]:
    """{a folder of images: the folders of its truth, the best first}.

    A folder of truth has the path of the images but for one name, in capitals or not.
    """
    lookup = {}
    for folder in folders:
        parts = folder.split("/")
        for place, part in enumerate(parts):
            lookup[*parts[:place], None, part.lower(), *parts[place + 1 :]] = folder
    result = {}
    for folder in folders:
        parts = folder.split("/")
        kinds = [(place, kind) for place, part in enumerate(parts) for kind in truths_beside(part)]
        keys = [(*parts[:place], None, kind, *parts[place + 1 :]) for place, kind in kinds]
        result[folder] = [lookup[key] for key in keys if key in lookup]
    return result


def folder_pairs(names: Iterable[str]) -> tuple[dict[str, Members], set[str]]:
    """Sort the names of two folders that belong together.

    A folder of images counts where a truth has the name of one of its images. One image in `images`
    beside several files in `masks` does not: that is the layout of DSB2018.

    Args:
        names: of all files, with "/" between folders.

    Returns:
        {".../images/A": Members}, and the folders that they lie in. Where there are pairs, images
        without a truth are among them, and truths without an image.
    """
    folders, result, used = by_folder(names), {}, set()
    for folder, places in truth_folders(folders).items():
        images = stems_of(folders[folder], IMAGE_SUFFIXES)
        if len(images) == 1:
            places = [place for place in places if not is_of_dsb2018(folder, folders[place])]
        pairs = pairs_of(images, [folders[place] for place in places])
        if any(files.images and files.truths for files in pairs.values()):
            result |= pairs
            used |= {folder, *places}
    for folder in folders if result else ():
        if folder not in used and folder.rpartition("/")[2].lower() not in ("images", "masks"):
            result |= lone_files(folder, folders[folder])
            used.add(folder)
    return result, used


def is_of_dsb2018(images: str, truths: list[str]) -> bool:
    """Whether a folder with one image and these truths holds a mask for each nucleus."""
    last = {name.split("/")[-2].lower() for name in truths}
    return images.lower().endswith("/images") and last == {"masks"} and len(truths) > 1


def lone_files(folder: str, names: list[str]) -> dict[str, Members]:
    """The images, or truths, of a folder whose counterpart is missing; none of other folders."""
    parts = folder.lower().split("/")[1:]  # behind the name of the source
    if any(truths_beside(part) for part in parts):
        return pairs_of(stems_of(names, IMAGE_SUFFIXES), [])
    if parts and TRUTH_FOLDER.fullmatch(parts[-1]):
        return pairs_of({}, [names])
    return {}


def pairs_of(images: dict[str, list[str]], truths: list[list[str]]) -> dict[str, Members]:
    """The images of a folder with their truths, and what is there of one of them only.

    Args:
        images: {stem: names}.
        truths: the names of the files of each folder of truth, the best first.
    """
    members = {stem: Members(files, []) for stem, files in images.items()}
    alone: dict[str, Members] = {}
    for names in truths:
        files_of = stems_of(names, TRUTH_SUFFIXES)
        owners = images_of(files_of, {*members})
        for stem, files in files_of.items():
            if stem not in owners:
                alone.setdefault(stem, Members([], files))
            elif not members[owners[stem]].truths:
                members[owners[stem]].truths.extend(files)
    places = {files.images[0]: (stem, files) for stem, files in members.items()}
    places |= {files.truths[0]: (stem, files) for stem, files in alone.items()}
    return {f"{name.rpartition('/')[0]}/{stem}": files for name, (stem, files) in places.items()}


def stems_of(names: list[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """{stem: names} of the files that end in one of `suffixes`."""
    result: dict[str, list[str]] = {}
    for name in names:
        if name.lower().endswith(suffixes):
            result.setdefault(stem_of(PurePosixPath(name), suffixes), []).append(name)
    return result


def import_pair(stem: str, files: Members, fetch: Fetch, target: Target, result: Imported) -> None:
    """Copy one image and its truth into the target, and count them in `result`.

    Args:
        stem: of the pair.
        files: the names of the image and its truth.
        fetch: of the source.
        target: gets the two files.
        result: what counts them.

    Raises:
        FileNotFoundError, ValueError: one of them cannot be read, or their sizes differ.
    """
    image_name, truth_name = files.images[0], files.truths[0]
    image = read_image(fetch(image_name))
    suffixes = (
        suffix_of(Path(image_name), IMAGE_SUFFIXES),
        suffix_of(Path(truth_name), TRUTH_SUFFIXES),
    )
    paths = target.paths_to_write(stem, image, *suffixes)
    if not paths:
        result.images_already_there += 1
        return
    truth = read_truth(fetch(truth_name), image.shape[:2], stem=stem)
    require_same_size(image_name, image, truth_name, truth)
    names = {"raw": image_name, "gt": truth_name}
    for part, path in paths.items():
        copy_file(fetch(names[part]), path)
    target.finish(stem, paths, int(truth.labels.max(initial=0)), result)
    if "gt" in paths:
        result.kinds[kind_of(image_name, truth_name)] += 1


def kind_of(image_name: str, truth_name: str) -> str:
    """The name of a folder of truth by which its path differs from that of the images.

    Without the number of a slide: GT_01 and GT_02 are of one kind.
    """
    parts = zip(image_name.split("/"), truth_name.split("/"), strict=False)
    return next(there for here, there in parts if here != there).rstrip("0123456789")
