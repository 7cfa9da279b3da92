"""The layout of DSB2018 (BBBC038): one folder for each image, one mask for each nucleus.

stage1_train/ID/images/ID.png   ->  out/raw/ID.png      the image as it is
stage1_train/ID/masks/*.png     ->  out/gt/ID.png       16-bit ids
"""

from collections.abc import Iterable
from pathlib import Path

from nuclei.archives import is_companion
from nuclei.datasets.folder_pairs import import_pair
from nuclei.datasets.pairs import images_of
from nuclei.datasets.source import Fetch, Members
from nuclei.datasets.target import Imported, Target
from nuclei.files import copy_file
from nuclei.images.labels import merge_masks
from nuclei.images.reading import IMAGE_SUFFIXES, read_image
from nuclei.images.stems import stem_of
from nuclei.images.writing import in_16_bits, write_png
from nuclei.truth.masks import is_soft_spot, read_nucleus, read_truth, tells_nuclei_apart


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


def import_masks(
    stem: str,
    files: Members,
    fetch: Fetch,
    target: Target,
    result: Imported,
    has_masks_of_one: bool,
) -> None:
    """Bring one image and the masks beside it into the target, and count them in `result`.

    Args:
        stem, files, fetch, target, result: as of `import_pair`.
        has_masks_of_one: as of `truth_of_all`.

    Raises:
        FileNotFoundError, ValueError: the image or a mask cannot be read, or what the masks show is
            unclear.
    """
    if whole := truth_of_all(files, fetch, has_masks_of_one):
        import_pair(stem, Members(files.images, [whole]), fetch, target, result)
        result.truths_alone += [name for name in files.truths if name != whole]
        return
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
        copy_file(fetch(image_name), paths["raw"])
    target.finish(stem, paths, int(labels.max(initial=0)), result)
    result.pixels_claimed_twice += num_claimed_twice


def truth_of_all(files: Members, fetch: Fetch, has_masks_of_one: bool) -> str:
    """The one among the masks of an image that shows all of its nuclei; "" where each shows one.

    It is the only one, or has the name of the image.

    Args:
        files: one image and its masks.
        fetch: of the source.
        has_masks_of_one: whether other images of the source have a mask for each nucleus. Then a
            mask of several regions is one nucleus in pieces.

    Raises:
        FileNotFoundError, ValueError: the mask cannot be read, or may be either.
    """
    masks = {stem_of(Path(name), IMAGE_SUFFIXES): name for name in files.truths}
    owners = images_of(masks, {stem_of(Path(files.images[0]), IMAGE_SUFFIXES)})
    whole = next((masks[stem] for stem in owners), "")
    if not whole and len(files.truths) == 1:
        whole = files.truths[0]
    truth = read_truth(fetch(whole)) if whole else None
    if truth is None or truth.labels.max() <= 1:
        return ""
    if tells_nuclei_apart(truth):
        return "" if is_soft_spot(truth.labels) else whole
    if len(files.truths) == 1:
        return "" if has_masks_of_one else whole
    raise ValueError(
        f"{whole.rpartition('/')[2]} has the name of the image and shows {truth.labels.max()} "
        f"regions, and {len(files.truths) - 1} other masks lie beside it; keep that one alone, or "
        "give it another name if each mask is one nucleus"
    )
