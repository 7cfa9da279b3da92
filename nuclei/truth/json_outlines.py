"""Outlines of nuclei in JSON, whatever tool wrote it: GeoJSON, COCO, LabelMe or VIA.

    drawn = json_outlines("gt/a.json", "a", shape)
    described_stems("gt/instances_default.json")       # the images of a file for a whole set

The tool is recognised by the content.
"""

import functools
import gzip
import json
import zipfile
from pathlib import Path

from nuclei.archives import MAX_MEMBER_BYTES, is_companion, refuse_unsafe_archive
from nuclei.images.stems import named_stem
from nuclei.truth.coco_outlines import coco_outlines, coco_stems, is_coco, is_list_of_masks
from nuclei.truth.geojson_outlines import AREAS, NO_AREAS, geojson_outlines
from nuclei.truth.outline import Drawn
from nuclei.truth.shape_outlines import is_labelme, labelme_outlines, via_files, via_outlines
from nuclei.truth.xml_outlines import xml_stems

GEOJSON_TYPES = ("FeatureCollection", "Feature", "GeometryCollection", *AREAS, *NO_AREAS)
# Tools whose JSON is not read, by keys of it, and the way out of each.
OTHER_TOOLS = (
    ({"nuc"}, "HoVer-Net's JSON; take the .mat file that it writes beside"),
    ({"size", "objects"}, "Supervisely's JSON; export it as COCO"),
    ({"image_id", "score"}, "a list of COCO results, which does not name its image; export COCO"),
    ({"data", "annotations"}, "Label Studio's JSON; export it as COCO"),
    ({"asset", "regions"}, "VoTT's JSON; export it as COCO"),
)


def json_outlines(path: Path, stem: str, shape: tuple[int, int]) -> Drawn:
    """The outlines that a file has for one image.

    Args:
        path: plain, gzipped, or the only .geojson or .json file of a zip.
        stem: of the image, for files that describe several.
        shape: height and width of the image in pixels.

    Raises:
        ValueError: the file is not of a known tool, or does not belong to the image.
    """
    data = parsed(path)
    if is_list_of_masks(data):
        data = {"image": {}, "annotations": data}
    if is_coco(data):
        return coco_outlines(data, path, stem, shape)
    if is_labelme(data):
        return labelme_outlines(data, path, shape)
    if via_files(data) is not None:
        return via_outlines(data, path, stem)
    if isinstance(data, dict) and "type" in data and data.get("type") not in GEOJSON_TYPES:
        raise ValueError(f"{str(data['type'])[:40]!r} is no geometry of GeoJSON")
    first = data[0] if isinstance(data, list) and data else data
    keys = {*first} if isinstance(first, dict) else set()
    for known, words in OTHER_TOOLS:
        if known <= keys:
            raise ValueError(f"{path} is {words}")
    if isinstance(data, list) or "type" in keys or "geometry" in keys:
        return geojson_outlines(data)
    raise ValueError(f"keys {', '.join(sorted(map(str, keys)))[:80] or 'none'}")


def described_stems(path: Path) -> list[str]:
    """The stems of the images that a file of COCO, VIA or CVAT describes; [] for every other."""
    try:
        if path.suffix.lower() == ".xml":
            return xml_stems(path)
        data = parsed(path)
        if is_coco(data):
            return coco_stems(data)
        return [named_stem(name) for name, _ in (via_files(data) or {}).values()]
    except Exception:  # reading it as a truth tells the reason
        return []


def parsed(path: Path):
    """The content of a JSON file; the last few stay in memory, since many images may share one."""
    status = path.stat()
    return parse(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)
def parse(path: Path, _changed: int, _size: int):
    """Parse a file; the other arguments tell versions of it apart.

    Raises:
        ValueError: it is no JSON, or too large.
    """
    text = unpacked(path)
    encoding = json.detect_encoding(text)
    # Names in an old encoding cost no outline.
    return json.loads(text.decode(encoding, "replace").removeprefix("\ufeff"))


def unpacked(path: Path) -> bytes:
    """The bytes of a file, of a gzipped file, or of the only .geojson or .json file of a zip.

    Raises:
        ValueError: there are more bytes than MAX_MEMBER_BYTES, or not one such file in the zip.
    """
    with open(path, "rb") as file:
        head = file.read(2)
    if head == b"PK":
        with zipfile.ZipFile(path) as archive:
            refuse_unsafe_archive(path, archive)
            names = [
                name
                for name in archive.namelist()
                if name.lower().endswith((".geojson", ".json")) and not is_companion(name)
            ]
            if len(names) != 1:
                raise ValueError(
                    f"{path} holds {len(names)} .geojson files and no .roi; expected one, or "
                    "ImageJ ROIs"
                )
            return archive.read(names[0])
    with gzip.open(path) if head == b"\x1f\x8b" else open(path, "rb") as file:
        text = file.read(MAX_MEMBER_BYTES + 1)
    if len(text) > MAX_MEMBER_BYTES:
        raise ValueError(
            f"{path} unpacks to more than {MAX_MEMBER_BYTES:,} bytes; cut its image into smaller "
            "ones"
        )
    return text
