"""Outlines of nuclei in parsed JSON: QuPath's GeoJSON and COCO.

Both write (x, y) in pixels, where (0, 0) is the upper left corner of the image; an `Outline` has
(row, column).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclei.polygons import Polygon, unpack_runs

AREAS = ("Polygon", "MultiPolygon")  # geometries of GeoJSON that enclose pixels
NO_AREAS = ("Point", "MultiPoint", "LineString", "MultiLineString")
NO_NUCLEI = ("root", "tile", "tmaCore")  # kinds of objects in QuPath that hold others


class Outline(NamedTuple):
    """One drawn nucleus.

    Attributes:
        polygons: their areas add up. A polygon is a list of rings of (n, 2) float, (row, column) of
            points; what an even number of its rings encloses is a hole.
        may_be_region: whether it could also be the region that somebody worked in.
        pixels: flat indices of the pixels, where the file has these instead of polygons.
    """

    polygons: list[Polygon]
    may_be_region: bool = False
    pixels: np.ndarray | None = None


def geojson_outlines(data, path: Path) -> list[Outline]:
    """The areas of a GeoJSON file, as QuPath understands its objects.

    Args:
        data: a FeatureCollection, a Feature, a geometry or a list of them.
        path: names the file in an error.

    Raises:
        ValueError: all objects are points or lines.
    """
    if isinstance(data, dict) and data.get("type") == "FeatureCollection":
        data = data["features"]
    outlines, num_others = [], 0
    for feature in data if isinstance(data, list) else [data]:
        properties = feature.get("properties") or {}
        kind = properties.get("objectType") or properties.get("object_type") or "annotation"
        name = (properties.get("classification") or {}).get("name") or ""
        if kind in NO_NUCLEI or name.endswith("*"):
            continue
        geometry = feature.get("nucleusGeometry") or feature.get("geometry", feature)
        polygons = geojson_polygons(geometry)
        if polygons:
            outlines.append(Outline(polygons, may_be_region=kind == "annotation"))
        else:
            num_others += 1
    if num_others and not outlines:
        raise ValueError(
            f"{path} holds {num_others} objects and no area among them (points or lines); expected "
            "outlines"
        )
    return outlines


def geojson_polygons(geometry: dict) -> list[Polygon]:
    """The polygons of a GeoJSON geometry, [] where it is a point or a line."""
    kind = geometry["type"]
    if kind == "GeometryCollection":
        return [polygon for part in geometry["geometries"] for polygon in geojson_polygons(part)]
    if kind not in AREAS:
        if kind not in NO_AREAS:
            raise ValueError(f"{kind!r} is no geometry of GeoJSON")
        return []
    polygons = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    return [
        # Points may have a height behind (x, y).
        [np.array(ring, float).reshape(len(ring), -1)[:, 1::-1] for ring in rings]
        for rings in polygons
        if rings
    ]


def coco_outlines(data: dict, path: Path, stem: str, shape: tuple[int, int]) -> list[Outline]:
    """The annotations that COCO JSON has for one image.

    Args:
        data: the parsed file.
        path: names the file in an error.
        stem: of the image; a file with one image needs no equal name.
        shape: height and width of the image in pixels.

    Raises:
        ValueError: the file does not describe the image, or describes one of another size.
    """
    images = data["images"]
    if len(images) > 1:
        images = [image for image in images if Path(image["file_name"]).stem == stem]
    if len(images) != 1:
        raise ValueError(
            f"{path} describes {len(data['images'])} images, {len(images)} of which are called "
            f"{stem}; expected a file for each image"
        )
    image = images[0]
    if (image.get("height", shape[0]), image.get("width", shape[1])) != shape:
        raise ValueError(
            f"{path} was drawn on an image of {image['height']} x {image['width']} px (height x "
            f"width), its image here has {shape[0]} x {shape[1]}; expected equal sizes"
        )
    outlines = []
    for annotation in data["annotations"]:
        if annotation["image_id"] != image["id"] or annotation.get("iscrowd"):
            continue
        drawn = annotation["segmentation"]
        if isinstance(drawn, dict):
            outlines.append(Outline([], pixels=unpack_runs(drawn["counts"], shape)))
        elif drawn:
            polygons = [[np.array(ring, float).reshape(-1, 2)[:, ::-1]] for ring in drawn]
            outlines.append(Outline(polygons))
    return outlines
