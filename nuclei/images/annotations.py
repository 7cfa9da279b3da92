"""nuclei.images.annotations"""

import gzip
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nuclei.files import MAX_MEMBER_BYTES, first_line, refuse_unsafe_archive
from nuclei.images.labels import Truth, merge_nuclei
from nuclei.polygons import fill, unpack_runs

OUTLINE_SUFFIXES = (".geojson.gz", ".geojson.zip", ".geojson", ".json", ".zip", ".roi")  # a longer one before its end
REGION_TIMES = 20  # an annotation so many times larger than the median outline, with others inside, is no nucleus


class Outline(NamedTuple):
    """One drawn nucleus: polygons whose areas add up; in each, rings of (n, 2) float, (row, column) of points where (0, 0)
    is the upper left corner of the image. What an even number of rings of a polygon enclose is a hole."""

    polygons: list[list[np.ndarray]]
    may_be_region: bool = False


def read_outlines(path, shape: tuple[int, int] | None) -> Truth:
    """Fill the outlines of a file: a pixel belongs to a nucleus when its centre lies inside.

    Understood by content: GeoJSON of QuPath (detections, cells by their nucleus, annotations; also in a gz or zip), an
    ImageJ ROI or a zip of them, COCO JSON. Where nuclei overlap the smaller one lies on top. Points and lines are passed
    over, and so is what QuPath itself ignores (classes ending in *) and a large annotation around other objects, which
    is the region that somebody worked in.

    path: a file of OUTLINE_SUFFIXES. shape: (height, width) of its image.
    Raises: FileNotFoundError; ValueError naming the file where it is damaged or of another kind, or where nothing of it
    lies inside the image.
    """
    path = Path(path)
    if shape is None:
        raise ValueError(f"{path} holds outlines, not pixels: it can only be read together with its image, as a pair")
    if not path.is_file():
        raise FileNotFoundError(f"{path} {'is a folder, not a file' if path.is_dir() else 'does not exist'}")
    shape = (int(shape[0]), int(shape[1]))
    try:
        found = read_rois(path) if holds_rois(path) else read_json_outlines(path, shape)
        nuclei = [item if isinstance(item, np.ndarray) else fill(item.polygons, shape) for item in found]
    except MemoryError:
        raise ValueError(f"{path} does not fit into memory; cut its image into smaller ones") from None
    except Exception as error:  # on a damaged file the parsers raise whatever they run into
        if str(path) in str(error) and isinstance(error, ValueError):  # our own
            raise
        if isinstance(error, OSError) and error.errno is not None:  # a fault of the disk or a permission
            raise
        raise ValueError(
            f"{path} is damaged or no file of outlines ({type(error).__name__}: {first_line(error)}); expected GeoJSON "
            "as QuPath writes it, ImageJ ROIs (one or a zip) or COCO JSON: export it again"
        ) from error
    if found and not any(nucleus.size for nucleus in nuclei):
        raise ValueError(
            f"{path} holds {len(found)} outlines and none lies inside its image of {shape[0]} x {shape[1]} px (height x "
            "width); was it drawn on another image, or at another scale?"
        )
    nuclei = without_regions(found, nuclei)
    labels = merge_nuclei(nuclei, shape)[0]
    return Truth(labels, "instances" if nuclei else "empty", 0.0)


def without_regions(found: list, nuclei: list[np.ndarray]) -> list[np.ndarray]:
    """Leave out outlines outside of the image, and annotations far larger than a nucleus that hold two others or more."""
    areas = np.array([nucleus.size for nucleus in nuclei])
    middles = np.array([nucleus[nucleus.size // 2] for nucleus in nuclei if nucleus.size])
    usual = np.median(areas[areas > 0]) if middles.size else 0
    kept = []
    for item, nucleus in zip(found, nuclei, strict=True):
        large = getattr(item, "may_be_region", False) and nucleus.size > REGION_TIMES * usual
        if nucleus.size and not (large and np.isin(middles, nucleus).sum() > 2):  # its own middle is one of them
            kept.append(nucleus)
    return kept


def holds_rois(path: Path) -> bool:
    """Whether a file is an ImageJ ROI or a zip of ROIs (perhaps of none), by its first bytes and its members."""
    with open(path, "rb") as file:
        head = file.read(4)
    if head[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return not names or any(name.lower().endswith(".roi") for name in names)
    return head == b"Iout"


def read_rois(path: Path) -> list[Outline]:
    """The areas among ImageJ's ROIs: polygons, freehand and traced shapes, ovals, boxes and combinations of them."""
    try:
        import roifile
    except ModuleNotFoundError:
        raise ValueError(f"{path}: reading ImageJ ROIs needs the package roifile: python -m pip install roifile") from None

    if path.stat().st_size > MAX_MEMBER_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {MAX_MEMBER_BYTES:,}")
    kinds = roifile.ROI_TYPE
    areas = (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED, kinds.RECT, kinds.OVAL)
    if not zipfile.is_zipfile(path):  # by content, where roifile itself goes by the name
        rois = [roifile.ImagejRoi.frombytes(path.read_bytes())]
    else:
        with zipfile.ZipFile(path) as archive:
            refuse_unsafe_archive(path, archive)
            names = [name for name in archive.namelist() if name.lower().endswith(".roi")]
            rois = [roifile.ImagejRoi.frombytes(archive.read(name)) for name in names]
    outlines = [
        Outline([[ring[:, ::-1].astype(float) for ring in roi.coordinates(multi=True)]])  # from (x, y)
        for roi in rois
        if roi.roitype in areas
    ]
    if rois and not outlines:
        raise ValueError(f"{path} holds {len(rois)} ROIs and no area among them (points or lines); expected outlines")
    return outlines


def read_json_outlines(path: Path, shape: tuple[int, int]) -> list:
    """Outlines of a GeoJSON or COCO file, plain, gzipped or the only .json or .geojson member of a zip."""
    with open(path, "rb") as file:
        head = file.read(2)
    if head == b"PK":
        with zipfile.ZipFile(path) as archive:
            refuse_unsafe_archive(path, archive)
            names = [name for name in archive.namelist() if name.lower().endswith((".geojson", ".json"))]
            if len(names) != 1:
                raise ValueError(f"{path} holds {len(names)} .geojson files and no .roi; expected one, or ImageJ ROIs")
            text = archive.read(names[0])
    else:
        with gzip.open(path) if head == b"\x1f\x8b" else open(path, "rb") as file:
            text = file.read(MAX_MEMBER_BYTES + 1)
        if len(text) > MAX_MEMBER_BYTES:
            raise ValueError(f"{path} unpacks to more than {MAX_MEMBER_BYTES:,} bytes; cut its image into smaller ones")
    data = json.loads(text)
    if isinstance(data, dict) and "annotations" in data:
        return coco_outlines(data, path, shape)
    return geojson_outlines(data, path)


def geojson_outlines(data, path: Path) -> list[Outline]:
    """Areas of a FeatureCollection, a Feature, a geometry or a list of such, as QuPath understands its objects."""
    if isinstance(data, dict) and data.get("type") == "FeatureCollection":
        data = data["features"]
    outlines, others = [], 0
    for feature in data if isinstance(data, list) else [data]:
        properties = feature.get("properties") or {}
        kind = properties.get("objectType") or properties.get("object_type") or "annotation"
        name = (properties.get("classification") or {}).get("name") or ""
        if kind in ("root", "tile", "tmaCore") or name.endswith("*"):
            continue
        geometry = feature.get("nucleusGeometry") or feature.get("geometry", feature)
        polygons = geojson_polygons(geometry)
        others += not polygons
        if polygons:
            outlines.append(Outline(polygons, kind == "annotation"))
    if others and not outlines:
        raise ValueError(f"{path} holds {others} objects and no area among them (points or lines); expected outlines")
    return outlines


def geojson_polygons(geometry: dict) -> list[list[np.ndarray]]:
    """The polygons of a GeoJSON geometry, [] where it is a point or a line. Coordinates are (x, y)."""
    kind = geometry["type"]
    if kind == "GeometryCollection":
        return [polygon for part in geometry["geometries"] for polygon in geojson_polygons(part)]
    if kind not in ("Polygon", "MultiPolygon"):
        if kind not in ("Point", "MultiPoint", "LineString", "MultiLineString"):
            raise ValueError(f"{kind!r} is no geometry of GeoJSON")
        return []
    polygons = [geometry["coordinates"]] if kind == "Polygon" else geometry["coordinates"]
    return [[np.array(ring, float).reshape(len(ring), -1)[:, 1::-1] for ring in rings] for rings in polygons if rings]


def coco_outlines(data: dict, path: Path, shape: tuple[int, int]) -> list:
    """Outlines, or flat indices of the pixels, of the annotations that COCO JSON has for the image of this stem."""
    stem = next(path.name[: -len(suffix)] for suffix in OUTLINE_SUFFIXES if path.name.lower().endswith(suffix))
    images = data["images"]
    mine = images if len(images) == 1 else [image for image in images if Path(image["file_name"]).stem == stem]
    if len(mine) != 1:
        raise ValueError(
            f"{path} describes {len(images)} images, {len(mine)} of which are called {stem}; expected a file for each image"
        )
    image = mine[0]
    if (image.get("height", shape[0]), image.get("width", shape[1])) != shape:
        raise ValueError(
            f"{path} was drawn on an image of {image['height']} x {image['width']} px (height x width), its image here has "
            f"{shape[0]} x {shape[1]}; expected equal sizes"
        )
    found: list = []
    for annotation in data["annotations"]:
        if annotation["image_id"] != image["id"] or annotation.get("iscrowd"):
            continue
        drawn = annotation["segmentation"]
        if isinstance(drawn, dict):
            found.append(unpack_runs(drawn["counts"], shape))
        elif drawn:
            found.append(Outline([[np.array(ring, float).reshape(-1, 2)[:, ::-1]] for ring in drawn]))
    return found
