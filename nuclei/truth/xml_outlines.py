"""Outlines in XML, as Aperio ImageScope and CVAT write it.

    drawn = xml_outlines(Path("gt/a.xml"), "a", shape)
    xml_stems(Path("gt/annotations.xml"))       # the images of CVAT's file for a whole set

Aperio's is the form of the public sets MoNuSeg and MoNuSAC, CVAT's is "CVAT for images 1.1":
https://docs.cvat.ai/docs/manual/advanced/xml_format
"""

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from nuclei.archives import MAX_MEMBER_BYTES
from nuclei.files import named
from nuclei.images.stems import bare_stem, named_stem
from nuclei.truth.outline import (
    BOXES,
    IGNORED,
    LINES,
    Drawn,
    Outline,
    box,
    ellipse,
    polyline_polygons,
    ring_of,
)

NO_CLASSES = ("ambiguous",)  # of MoNuSAC: regions in which nobody could tell the nuclei
APERIO_POLYGON, APERIO_RECTANGLE, APERIO_ELLIPSE = "0", "1", "2"  # values of Region/Type


def xml_outlines(path: Path, stem: str, shape: tuple[int, int]) -> Drawn:
    """The outlines that a file has for one image.

    Args:
        path: the file.
        stem: of the image, for a file that describes several.
        shape: height and width of the image in pixels.

    Raises:
        ValueError: the file is of another tool, or does not belong to the image.
    """
    root = parsed(path)
    if root.tag == "Annotations":
        return aperio_outlines(root)
    if root.tag == "annotations" and root.find("track") is not None:
        raise ValueError(f"{path} is CVAT's XML of a video; export it as CVAT for images")
    if root.tag == "annotations":
        return cvat_outlines(root, path, stem, shape)
    if root.tag == "annotation":
        raise ValueError(f"{path} is Pascal VOC's XML, which holds boxes; expected outlines")
    raise ValueError(f"the element {root.tag[:40]}; expected Annotations or annotations")


def xml_stems(path: Path) -> list[str]:
    """The stems of the images that CVAT's file describes; [] for every other file."""
    root = parsed(path)
    images = root.findall("image") if root.tag == "annotations" else []
    return [named_stem(image.get("name", "")) for image in images]


def parsed(path: Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        ValueError: it is too large.
        ElementTree.ParseError: it is no XML.
    """
    if path.stat().st_size > MAX_MEMBER_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
        )
    return ElementTree.parse(path).getroot()


def aperio_outlines(root: ElementTree.Element) -> Drawn:
    """The regions of all layers of Aperio ImageScope.

    Layers of a class in NO_CLASSES and regions that cut out of others are left out.
    """
    drawn = Drawn()

    def read(region):
        if region.get("NegativeROA") == "1":
            drawn.leave_out(IGNORED)
        else:
            drawn.add(aperio_polygons(region))

    for layer in root.iter("Annotation"):
        regions = list(layer.iter("Region"))
        names = [layer.get("Name"), *(item.get("Name") for item in layer.iter("Attribute"))]
        if any(str(name).strip().lower() in NO_CLASSES for name in names):
            drawn.leave_out(IGNORED, len(regions))
        else:
            drawn.try_each(regions, read)
    return drawn


def aperio_polygons(region: ElementTree.Element) -> list:
    """The area of a region, [] where it is an arrow, a ruler or a point.

    Raises:
        TypeError, ValueError: its corners are no numbers, or too few.
    """
    points = [(float(item.get("X")), float(item.get("Y"))) for item in region.iter("Vertex")]
    kind = region.get("Type", APERIO_POLYGON)
    if kind == APERIO_POLYGON or kind == APERIO_RECTANGLE and len(points) > 2:
        return [[ring_of(points)]]
    if kind not in (APERIO_RECTANGLE, APERIO_ELLIPSE):
        return []
    (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
    if kind == APERIO_RECTANGLE:
        return [[box(left, top, right - left, bottom - top)]]
    return [
        [ellipse((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)]
    ]


def cvat_outlines(
    root: ElementTree.Element, path: Path, stem: str, shape: tuple[int, int]
) -> Drawn:
    """The drawings that CVAT's file has for one image.

    Raises:
        ValueError: the file does not describe the image, or describes one of another size.
    """
    image = chosen_image(root.findall("image"), path, stem)
    size = (int(image.get("height", 0)), int(image.get("width", 0)))
    if all(size) and size != shape:
        raise ValueError(
            f"{path} was drawn on an image of {size[0]} x {size[1]} px (height x width), its image "
            f"here has {shape[0]} x {shape[1]}; expected equal sizes"
        )
    drawn = Drawn()
    drawn.try_each(image, lambda drawing: read_cvat(drawing, drawn, shape))
    return drawn


def chosen_image(images: list, path: Path, stem: str) -> ElementTree.Element:
    """The element of the image called `stem`, or the only one.

    Raises:
        ValueError: there is none, or more than one.
    """
    stems, chosen = [named_stem(image.get("name", "")) for image in images], images
    for bare in (str, bare_stem) if len(images) > 1 else ():
        chosen = [
            image for image, name in zip(images, stems, strict=True) if bare(name) == bare(stem)
        ]
        if chosen:
            break
    if len(chosen) != 1:
        raise ValueError(
            f"{path} describes {len(stems)} images ({named(stems)}), {len(chosen)} of which are "
            f"called {stem}; expected one"
        )
    return chosen[0]


def read_cvat(drawing: ElementTree.Element, drawn: Drawn, shape: tuple[int, int]) -> None:
    """Add one drawing of CVAT to `drawn`.

    Raises:
        TypeError, ValueError: it is damaged or of an unknown kind.
    """
    kind = drawing.tag
    if kind == "mask":
        drawn.outlines.append(Outline([], pixels=cvat_mask(drawing, shape)))
    elif kind in ("polygon", "polyline"):
        pairs = drawing.get("points").split(";")
        points = [[float(number) for number in pair.split(",")] for pair in pairs]
        drawn.add([[ring_of(points)]] if kind == "polygon" else polyline_polygons(points))
    elif kind == "ellipse":
        numbers = (float(drawing.get(key)) for key in ("cx", "cy", "rx", "ry"))
        turn = math.radians(float(drawing.get("rotation", 0)))
        drawn.add([[ellipse(*numbers, turn)]])
    elif kind in ("points", "skeleton"):
        drawn.leave_out(LINES)
    elif kind in ("box", "cuboid"):
        drawn.leave_out(BOXES)
    elif kind != "tag":  # a tag is about the whole image
        raise ValueError(f"{kind!r} is no shape of CVAT")


def cvat_mask(drawing: ElementTree.Element, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of a mask as flat indices: runs of a box row by row, the background first.

    Raises:
        ValueError: the runs do not fill the box, or it leaves the image.
    """
    top, left, height, width = (int(drawing.get(key)) for key in ("top", "left", "height", "width"))
    runs = [int(number) for number in drawing.get("rle").split(",")]
    is_inside = 0 <= top <= shape[0] - height and 0 <= left <= shape[1] - width
    if sum(runs) != height * width or min(runs) < 0 or not is_inside:
        raise ValueError(f"a mask of {sum(runs)} px in a box of {height} x {width} px")
    values = np.arange(len(runs)) % 2
    rows, columns = np.divmod(np.flatnonzero(np.repeat(values, runs)), width)
    return (rows + top) * shape[1] + columns + left
