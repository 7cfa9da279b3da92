"""The layout of DSB2018 (BBBC038): one folder for each image, one mask for each nucleus.

stage1_train/ID/images/ID.png   ->  out/raw/ID.png      the image as it is
stage1_train/ID/masks/*.png     ->  out/gt/ID.png       16-bit ids
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

from nuclei.archives import is_companion
from nuclei.datasets.source import Fetch, Members
from nuclei.datasets.target import Imported, Target
from nuclei.files import replacing
from nuclei.images.labels import merge_masks
from nuclei.images.reading import IMAGE_SUFFIXES, read_image
from nuclei.images.writing import in_16_bits, write_png
from nuclei.truth.masks import read_nucleus


def dsb2018_members(names: Iterable[str]) -> dict[str, Members]:
    """Sort the names `.../ID/images/*.png` and `.../ID/masks/*.png`: {".../ID": Members}."""
    members: dict[str, Members] = {}
    for name in sorted(names):
        *above, kind, file = name.split("/")
        kind, is_image = kind.lower(), Path(file).suffix.lower() in IMAGE_SUFFIXES
        if above and kind in ("images", "masks") and is_image and not is_companion(name):
            files = members.setdefault("/".join(above), Members([], []))
            (files.images if kind == "images" else files.truths).append(name)
    return members


def import_masks(stem: str, files: Members, fetch: Fetch, target: Target, result: Imported) -> None:
    """Bring one image and its masks into the target and count them in `result`.

    Raises:
        FileNotFoundError, ValueError: the image or a mask cannot be read.
    """
    image_name = files.images[0]
    image = read_image(fetch(image_name))
    paths = target.paths_to_write(stem, image, Path(image_name).suffix.lower())
    if not paths:
        result.images_already_there += 1
        return
    shape = image.shape[:2]
    masks = (read_nucleus(fetch(name), shape) for name in files.truths)
    labels, num_claimed_twice = merge_masks(masks, shape)
    if "gt" in paths:
        write_png(paths["gt"], in_16_bits(labels))
    if "raw" in paths:
        with replacing(paths["raw"]) as temporary:
            shutil.copyfile(fetch(image_name), temporary)
    target.finish(stem, paths, int(labels.max(initial=0)), result)
    result.pixels_claimed_twice += num_claimed_twice
