"""Read ground truth that is drawn as outlines: QuPath's GeoJSON, ImageJ's ROIs, COCO JSON.

    truth = read_outlines("data/gt/a.geojson", shape=(1024, 1024))

The format is recognised by content. An outline becomes the pixels whose centres lie inside.
"""

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np

from nuclei.files import (
    MAX_MEMBER_BYTES,
    first_line,
    is_system_fault,
    refuse_unsafe_archive,
)
from nuclei.images.json_outlines import Outline, coco_outlines, geojson_outlines
from nuclei.images.labels import EMPTY, INSTANCES, Truth, merge_nuclei
from nuclei.polygons import fill

# A suffix stands before the shorter one that it ends in.
OUTLINE_SUFFIXES = (".geojson.gz", ".geojson.zip", ".geojson", ".json", ".zip", ".roi")
REGION_TIMES = 20  # an annotation this many times larger than the median outline may be a region


def read_outlines(path, shape: tuple[int, int] | None) -> Truth:
    """Fill the outlines of a file: a pixel belongs to a nucleus when its centre lies inside.

    These files are understood: GeoJSON of QuPath (detections, cells by their nucleus, annotations;
    also in a gz or zip), an ImageJ ROI or a zip of them, COCO JSON. Where nuclei overlap, the
    smaller one lies on top. Points and lines are left out. So is what QuPath itself ignores
    (classes ending in *) and a large annotation around other objects, which is a region.

    Args:
        path: a file of OUTLINE_SUFFIXES.
        shape: height and width of its image in pixels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another kind, `shape` is missing, or no outline lies
            inside the image.
    """
    path = Path(path)
    if shape is None:
        raise ValueError(
            f"{path} holds outlines, not pixels: it can only be read together with its image, as a "
            "pair"
        )
    if not path.is_file():
        fault = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {fault}")
    shape = (int(shape[0]), int(shape[1]))
    outlines, nuclei = filled_outlines(path, shape)
    if outlines and not any(nucleus.size for nucleus in nuclei):
        raise ValueError(
            f"{path} holds {len(outlines)} outlines and none lies inside its image of {shape[0]} x "
            f"{shape[1]} px (height x width); was it drawn on another image, or at another scale?"
        )
    nuclei = without_regions(outlines, nuclei)
    labels = merge_nuclei(nuclei, shape)[0]
    return Truth(labels, INSTANCES if nuclei else EMPTY, 0.0)


def filled_outlines(path: Path, shape: tuple[int, int]) -> tuple[list[Outline], list[np.ndarray]]:
    """Parse and fill a file.

    Returns:
        Its outlines, and for each the flat indices of its pixels.

    Raises:
        ValueError: as `read_outlines`.
    """
    try:
        outlines = read_rois(path) if holds_rois(path) else read_json_outlines(path, shape)
        nuclei = [
            fill(outline.polygons, shape) if outline.pixels is None else outline.pixels
            for outline in outlines
        ]
    except MemoryError:
        raise ValueError(
            f"{path} does not fit into memory; cut its image into smaller ones"
        ) from None
    except Exception as error:  # parsers raise errors of all kinds on a damaged file
        if str(path) in str(error) and isinstance(error, ValueError):  # raised in these rooms
            raise
        if is_system_fault(error):
            raise
        raise ValueError(
            f"{path} is damaged or no file of outlines ({type(error).__name__}: "
            f"{first_line(error)}); expected GeoJSON as QuPath writes it, ImageJ ROIs (one or a "
            "zip) or COCO JSON: export it again"
        ) from error
    return outlines, nuclei


def without_regions(outlines: list[Outline], nuclei: list[np.ndarray]) -> list[np.ndarray]:
    """Leave out nuclei without pixels, and large annotations that hold two others or more.

    Args:
        outlines: the outlines of a file.
        nuclei: for each of them the flat indices of its pixels.
    """
    areas = np.array([nucleus.size for nucleus in nuclei])
    middles = np.array([nucleus[nucleus.size // 2] for nucleus in nuclei if nucleus.size])
    median_area = np.median(areas[areas > 0]) if middles.size else 0
    result = []
    for outline, nucleus in zip(outlines, nuclei, strict=True):
        is_large = outline.may_be_region and nucleus.size > REGION_TIMES * median_area
        is_region = is_large and np.isin(middles, nucleus).sum() > 2  # one of them is its own
        if nucleus.size and not is_region:
            result.append(nucleus)
    return result


def holds_rois(path: Path) -> bool:
    """Whether a file is an ImageJ ROI or a zip of ROIs, by its first bytes and its members."""
    with open(path, "rb") as file:
        head = file.read(4)
    if head[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return not names or any(name.lower().endswith(".roi") for name in names)
    return head == b"Iout"


def read_rois(path: Path) -> list[Outline]:
    """The areas among ImageJ's ROIs: polygons, freehand and traced shapes, ovals, boxes."""
    try:
        import roifile
    except ModuleNotFoundError:
        raise ValueError(
            f"{path}: reading ImageJ ROIs needs the package roifile: python -m pip install roifile"
        ) from None

    if path.stat().st_size > MAX_MEMBER_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
        )
    kinds = roifile.ROI_TYPE
    areas = (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED, kinds.RECT, kinds.OVAL)
    if not zipfile.is_zipfile(path):  # by content; roifile itself would go by the name
        rois = [roifile.ImagejRoi.frombytes(path.read_bytes())]
    else:
        with zipfile.ZipFile(path) as archive:
            refuse_unsafe_archive(path, archive)
            names = [name for name in archive.namelist() if name.lower().endswith(".roi")]
            rois = [roifile.ImagejRoi.frombytes(archive.read(name)) for name in names]
    outlines = []
    for roi in rois:
        if roi.roitype in areas:
            rings = [ring[:, ::-1].astype(float) for ring in roi.coordinates(multi=True)]
            outlines.append(Outline([rings]))
    if rois and not outlines:
        raise ValueError(
            f"{path} holds {len(rois)} ROIs and no area among them (points or lines); expected "
            "outlines"
        )
    return outlines


def read_json_outlines(path: Path, shape: tuple[int, int]) -> list[Outline]:
    """Outlines of a GeoJSON or COCO file: plain, gzipped, or the only such member of a zip."""
    with open(path, "rb") as file:
        head = file.read(2)
    if head == b"PK":
        with zipfile.ZipFile(path) as archive:
            refuse_unsafe_archive(path, archive)
            names = [
                name for name in archive.namelist() if name.lower().endswith((".geojson", ".json"))
            ]
            if len(names) != 1:
                raise ValueError(
                    f"{path} holds {len(names)} .geojson files and no .roi; expected one, or "
                    "ImageJ ROIs"
                )
            text = archive.read(names[0])
    else:
        with gzip.open(path) if head == b"\x1f\x8b" else open(path, "rb") as file:
            text = file.read(MAX_MEMBER_BYTES + 1)
        if len(text) > MAX_MEMBER_BYTES:
            raise ValueError(
                f"{path} unpacks to more than {MAX_MEMBER_BYTES:,} bytes; cut its image into "
                "smaller ones"
            )
    data = json.loads(text)
    if isinstance(data, dict) and "annotations" in data:
        name = path.name.lower()
        suffix = next(suffix for suffix in OUTLINE_SUFFIXES if name.endswith(suffix))
        return coco_outlines(data, path, path.name[: -len(suffix)], shape)
    return geojson_outlines(data, path)
