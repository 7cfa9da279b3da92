"""Outlines in the JSON of LabelMe and of the VGG Image Annotator (VIA 1 to 3).

    drawn = labelme_outlines(json.loads(text), path, shape)
    drawn = via_outlines(json.loads(text), path, "a")

Formats: https://github.com/wkentaro/labelme and https://www.robots.ox.ac.uk/~vgg/software/via
"""

import base64
import io
import math
from pathlib import Path

import numpy as np
from PIL import Image

from nuclei.files import named
from nuclei.images.stems import bare_stem, named_stem
from nuclei.polygons import Polygon
from nuclei.truth.outline import (
    IGNORED,
    LINES,
    Drawn,
    Outline,
    box,
    ellipse,
    polyline_polygons,
    ring_of,
)

NO_CLASSES = ("__ignore__", "_background_")  # labels with a meaning of their own in LabelMe
VIA_SHAPES = {1: "point", 2: "rect", 3: "circle", 4: "ellipse", 5: "line", 6: "polyline"}


def is_labelme(data) -> bool:
    """Whether parsed JSON is LabelMe's."""
    return isinstance(data, dict) and isinstance(data.get("shapes"), list)


def labelme_outlines(data: dict, path: Path, shape: tuple[int, int]) -> Drawn:
    """The shapes of a LabelMe file. Shapes of one `group_id` are the parts of one nucleus.

    Args:
        data: the parsed file; the image that it may contain is not used.
        path: names the file in an error.
        shape: height and width of the image in pixels.

    Raises:
        ValueError: it was drawn on an image of another size.
    """
    size = (data.get("imageHeight"), data.get("imageWidth"))
    if all(size) and size != shape:
        raise ValueError(
            f"{path} was drawn on an image of {size[0]} x {size[1]} px (height x width), its image "
            f"here has {shape[0]} x {shape[1]}; expected equal sizes"
        )
    drawn, groups = Drawn(), {}

    def read(drawing):
        if drawing.get("label") in NO_CLASSES:
            drawn.leave_out(IGNORED)
        elif drawing.get("shape_type") == "mask":
            pixels = labelme_mask(drawing, shape)
            drawn.outlines.append(Outline([], pixels=pixels))
        else:
            polygons = labelme_polygons(drawing)
            group = drawing.get("group_id")
            if polygons and group is not None:
                groups.setdefault((drawing.get("label"), group), []).extend(polygons)
            else:
                drawn.add(polygons)

    drawn.try_each(data["shapes"], read)
    for polygons in groups.values():  # the user says that these are one nucleus
        drawn.add(polygons, may_be_region=False)
    return drawn


def labelme_polygons(drawing: dict) -> list[Polygon]:
    """The area of a LabelMe shape, [] where it has none.

    Raises:
        ValueError: the kind of shape is unknown, or its points do not fit.
    """
    kind, points = drawing.get("shape_type") or "polygon", drawing["points"]
    if kind == "polygon":
        return [[ring_of(points)]]
    if kind == "circle":  # its centre and a point on it
        radius = math.dist(*points)
        return [[ellipse(*points[0], radius, radius)]]
    if kind == "rectangle":  # two opposite corners, or all four
        corners = np.array(points, float)
        (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
        return [[box(left, top, right - left, bottom - top)]]
    if kind == "linestrip":
        return polyline_polygons(points)
    if kind in ("point", "points", "line"):
        return []
    raise ValueError(f"{kind!r} is no shape of LabelMe")


def labelme_mask(drawing: dict, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of a mask that LabelMe stores as a PNG in base64, as flat indices.

    Raises:
        ValueError: it does not lie inside the image.
    """
    left, top = (round(value) for value in drawing["points"][0])
    with Image.open(io.BytesIO(base64.b64decode(drawing["mask"])), formats=("PNG",)) as image:
        if top < 0 or left < 0 or top + image.height > shape[0] or left + image.width > shape[1]:
            raise ValueError(f"a mask of {image.height} x {image.width} px leaves the image")
        rows, columns = np.nonzero(np.array(image.convert("L")))
    return (rows + top) * shape[1] + columns + left


def via_files(data) -> dict[str, tuple[str, list]] | None:
    """The images of a VIA file and their drawings.

    Returns:
        {key: (file name, regions)}; None where the parsed JSON is not VIA's. A region is the
        `shape_attributes` of VIA 1 and 2, to which those of VIA 3 are brought.
    """
    if not isinstance(data, dict) or not data:
        return None
    if {"file", "metadata", "view"} <= {*data}:
        return via3_files(data)
    files = data.get("_via_img_metadata", data)
    is_via = isinstance(files, dict) and all(
        isinstance(file, dict) and "filename" in file and "regions" in file
        for file in files.values()
    )
    if not is_via:
        return None
    result = {}
    for key, file in files.items():
        regions = file["regions"] or []
        regions = regions.values() if isinstance(regions, dict) else regions  # VIA 1 numbers them
        drawings = [
            isinstance(region, dict) and region.get("shape_attributes") for region in regions
        ]
        result[key] = str(file["filename"]), drawings
    return result


def via3_files(data: dict) -> dict[str, tuple[str, list]]:
    """The images and drawings of VIA 3, which keeps both apart and joins them by a view."""
    names = {key: str(file.get("fname")) for key, file in data["file"].items()}
    result = {key: (name, []) for key, name in names.items()}
    for entry in data["metadata"].values():
        view = data["view"].get(str(entry.get("vid")), {})
        numbers = entry.get("xy") or []
        for key in view.get("fid_list") or []:
            if str(key) in result and numbers:
                result[str(key)][1].append(via3_region(numbers))
    return result


def via3_region(numbers: list) -> dict:
    """A drawing of VIA 3 (a number for its kind, then its coordinates) as VIA 2 writes it."""
    kind, values = VIA_SHAPES.get(numbers[0], "polygon"), numbers[1:]
    if kind in ("polygon", "polyline"):
        return {"name": kind, "all_points_x": values[::2], "all_points_y": values[1::2]}
    names = {
        "rect": ("x", "y", "width", "height"),
        "circle": ("cx", "cy", "r"),
        "ellipse": ("cx", "cy", "rx", "ry"),
    }
    return {"name": kind} | dict(zip(names.get(kind, ()), values, strict=False))


def via_outlines(data: dict, path: Path, stem: str) -> Drawn:
    """The drawings that a VIA file has for one image.

    Args:
        data: the parsed file.
        path: names the file in an error.
        stem: of the image; a file with one image needs no equal name.

    Raises:
        ValueError: the file does not describe the image.
    """
    files = list((via_files(data) or {}).values())
    stems, bare = [named_stem(name) for name, _ in files], bare_stem(stem)
    chosen = [file for file, name in zip(files, stems, strict=True) if name == stem]
    chosen = chosen or [
        file for file, name in zip(files, stems, strict=True) if bare_stem(name) == bare
    ]
    chosen = files if len(files) == 1 else chosen
    if len(chosen) != 1:
        raise ValueError(
            f"{path} describes {len(files)} images ({named(name for name, _ in files)}), "
            f"{len(chosen)} of which are called {stem}; expected one"
        )
    drawn = Drawn()
    drawn.try_each(chosen[0][1], lambda drawing: read_via(drawing, drawn))
    return drawn


def read_via(drawing: dict, drawn: Drawn) -> None:
    """Add one drawing of VIA to `drawn`.

    Raises:
        KeyError, TypeError, ValueError: it is damaged or of an unknown kind.
    """
    kind = drawing["name"]
    if kind in ("polygon", "polyline"):
        points = list(zip(drawing["all_points_x"], drawing["all_points_y"], strict=True))
        drawn.add([[ring_of(points)]] if kind == "polygon" else polyline_polygons(points))
    elif kind == "circle":
        drawn.add([[ellipse(drawing["cx"], drawing["cy"], drawing["r"], drawing["r"])]])
    elif kind == "ellipse":
        radii, angle = (drawing["rx"], drawing["ry"]), drawing.get("theta") or 0
        drawn.add([[ellipse(drawing["cx"], drawing["cy"], *radii, angle)]])
    elif kind == "rect":
        drawn.add([[box(*(drawing[key] for key in ("x", "y", "width", "height")))]])
    elif kind in ("point", "line"):
        drawn.leave_out(LINES)
    else:
        raise ValueError(f"{kind!r} is no shape of VIA")
