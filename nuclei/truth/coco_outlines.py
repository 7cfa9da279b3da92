"""Outlines in COCO JSON, as pycocotools, CVAT, Label Studio, Roboflow and others write it.

    drawn = coco_outlines(json.loads(text), path, "a", shape)

Format: https://cocodataset.org/#format-data. A file may describe one image or a whole set.
"""

from pathlib import Path

import numpy as np

from nuclei.files import named
from nuclei.images.stems import bare_stem, named_stem
from nuclei.polygons import unpack_runs
from nuclei.truth.outline import (
    BOXES,
    CROWDS,
    IGNORED,
    NO_GEOMETRY,
    STRANGERS,
    Drawn,
    Outline,
    ring_of,
)


def is_coco(data) -> bool:
    """Whether parsed JSON is COCO's, or that of Segment Anything, which has one image."""
    return isinstance(data, dict) and "annotations" in data and bool({"images", "image"} & {*data})


def is_list_of_masks(data) -> bool:
    """Whether parsed JSON is the list of masks of one image that Segment Anything returns."""
    first = data[0] if isinstance(data, list) and data else None
    return isinstance(first, dict) and "segmentation" in first and "image_id" not in first


def coco_images(data: dict) -> list[dict]:
    """The entries of the images of a file."""
    images = data["images"] if "images" in data else [data["image"]]
    return [image for image in images if isinstance(image, dict)]


def coco_stems(data: dict) -> list[str]:
    """The stems of the images that a file describes."""
    return [named_stem(image.get("file_name") or "") for image in coco_images(data)]


def key_of(number) -> str:
    """An id or a size in one form: tools write 1, "1", "0001" and 1.0 for the same."""
    is_whole = isinstance(number, float) and number.is_integer()
    text = str(int(number) if is_whole else number).strip()
    return str(int(text)) if text.isdecimal() and len(text) < 20 else text


def coco_outlines(data: dict, path: Path, stem: str, shape: tuple[int, int]) -> Drawn:
    """The annotations that COCO JSON has for one image.

    Args:
        data: the parsed file.
        path: names the file in an error.
        stem: of the image; a file with one image needs no equal name.
        shape: height and width of the image in pixels.

    Raises:
        ValueError: the file does not describe the image, or describes one of another size.
    """
    images = coco_images(data)
    image = chosen_image(images, coco_stems(data), path, stem)
    size = (image.get("height"), image.get("width"))
    is_equal = [key_of(px) for px in size] == [key_of(px) for px in shape]  # some write texts
    if all(size) and not is_equal:
        raise ValueError(
            f"{path} was drawn on an image of {size[0]} x {size[1]} px (height x width), its image "
            f"here has {shape[0]} x {shape[1]}; expected equal sizes"
        )
    own, keys = key_of(image.get("id")), [key_of(image.get("id")) for image in images]
    if keys.count(own) > 1:
        raise ValueError(
            f"{path} gives {keys.count(own)} images the one id {own}, so nobody knows to which of "
            "them its annotations belong; export it again"
        )
    # Some tools write the name of the image in place of its id.
    by_name = {str(image.get("file_name")): key_of(image.get("id")) for image in images}
    drawn, of_image = Drawn(), []
    for annotation in data["annotations"] or []:
        if not isinstance(annotation, dict):
            drawn.leave_out_damaged(ValueError(f"{str(annotation)[:40]!r} is no annotation"))
            continue
        key = key_of(annotation.get("image_id", own if keys == [own] else None))
        key = key if key in keys else by_name.get(key, key)
        if key == own:
            of_image.append(annotation)
        elif key not in keys:
            drawn.leave_out(STRANGERS)
    read_annotations(of_image, shape, drawn)
    return drawn


def chosen_image(images: list[dict], stems: list[str], path: Path, stem: str) -> dict:
    """The entry of the image called `stem`, or the only one.

    Raises:
        ValueError: there is none, or more than one.
    """
    if len(images) > 1:
        entries = list(zip(images, stems, strict=True))
        images = [image for image, name in entries if name == stem]
        bare = bare_stem(stem)
        images = images or [image for image, name in entries if bare_stem(name) == bare]
    if len(images) != 1:
        raise ValueError(
            f"{path} describes {len(stems)} images ({named(stems)}), {len(images)} of which are "
            f"called {stem}; expected one"
        )
    return images[0]


def read_annotations(annotations: list[dict], shape: tuple[int, int], drawn: Drawn) -> None:
    """Add the annotations of one image to `drawn`.

    By the standard, `iscrowd` 1 marks a group of objects. CVAT writes it on every mask that was
    drawn with its brush. So it is believed only in a file that has masks without it; see
    `nuclei.truth.drawn_regions.split_crowds` for the others.
    """
    marks_groups = any(
        isinstance(annotation.get("segmentation"), dict) and not is_crowd(annotation)
        for annotation in annotations
    )

    def read(annotation):
        drawing = annotation.get("segmentation")
        if annotation.get("ignore"):
            drawn.leave_out(IGNORED)
        elif not drawing:
            drawn.leave_out(BOXES if annotation.get("bbox") else NO_GEOMETRY)
        elif is_crowd(annotation) and marks_groups:
            drawn.leave_out(CROWDS)
        elif isinstance(drawing, dict):
            pixels = runs_of(drawing, shape)
            drawn.outlines.append(Outline([], pixels=pixels, may_be_crowd=is_crowd(annotation)))
        else:
            rings = rings_of(drawing)
            if len(rings) == 1 and len(rings[0]) == 2:  # x, y, width, height in place of a polygon
                drawn.leave_out(BOXES)
            else:
                drawn.add([[ring_of(points)] for points in rings])

    drawn.try_each(annotations, read)


def is_crowd(annotation: dict) -> bool:
    """Whether an annotation is marked as a group; some tools write the number as a text."""
    return str(annotation.get("iscrowd") or 0).strip().lower() in ("1", "1.0", "true")


def runs_of(drawing: dict, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of a mask of run lengths, as flat indices.

    Raises:
        ValueError: it belongs to an image of another size.
    """
    size = tuple(drawing.get("size") or shape)
    if size != shape:
        raise ValueError(f"a mask of {size} px in an image of {shape} (height, width)")
    return unpack_runs(drawing["counts"], shape)


def rings_of(drawing: list) -> list:
    """The rings of a list of polygons: x, y, x, y, ... each, or points [x, y], or one flat list."""
    if not isinstance(drawing[0], list):
        drawing = [drawing]
    elif all(isinstance(part, list) and len(part) == 2 for part in drawing):
        return [drawing]
    rings = []
    for numbers in drawing:
        if not isinstance(numbers[0], list):
            if len(numbers) % 2:
                raise ValueError(f"a polygon of {len(numbers)} numbers; expected x, y, x, y, ...")
            numbers = list(zip(numbers[::2], numbers[1::2], strict=True))
        rings.append(numbers)
    return [ring for ring in rings if len(ring) > 2] or rings  # stray points beside an outline
