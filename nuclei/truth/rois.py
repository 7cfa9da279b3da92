"""Outlines in ImageJ's ROI files, one or a zip of them, as ImageJ, StarDist and Cellpose write.

drawn = roi_outlines(Path("gt/a.zip"))
"""

import zipfile
from pathlib import Path

from nuclei.archives import MAX_MEMBER_BYTES, is_companion, refuse_unsafe_archive
from nuclei.truth.outline import Drawn, finite


def holds_rois(path: Path) -> bool:
    """Whether a file is an ImageJ ROI or a zip of ROIs, by its first bytes and its members."""
    with open(path, "rb") as file:
        head = file.read(4)
    if head[:2] == b"PK":
        with zipfile.ZipFile(path) as archive:
            return not archive.namelist() or bool(roi_names(archive))
    return head == b"Iout"


def roi_names(archive: zipfile.ZipFile) -> list[str]:
    """The ROIs among the members of a zip."""
    names = archive.namelist()
    return [name for name in names if name.lower().endswith(".roi") and not is_companion(name)]


def roi_outlines(path: Path) -> Drawn:
    """The areas among ImageJ's ROIs: polygons, freehand and traced shapes, ovals, boxes.

    Raises:
        ValueError: the file is too large, or the package roifile is missing.
    """
    try:
        import roifile
    except ModuleNotFoundError:
        raise ValueError(
            f"{path}: reading ImageJ ROIs needs the package roifile: python -m pip install roifile"
        ) from None

    kinds = roifile.ROI_TYPE
    areas = (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED, kinds.RECT, kinds.OVAL)
    drawn = Drawn()

    def read(content):
        roi = roifile.ImagejRoi.frombytes(content)
        is_area = roi.roitype in areas
        if is_area and (plane := roi.z_position or roi.position):
            drawn.planes.add(plane)
        rings = roi.coordinates(multi=True) if is_area else []
        rings = [finite(ring[:, ::-1].astype(float)) for ring in rings]
        drawn.add([rings] if rings else [])

    if path.stat().st_size > MAX_MEMBER_BYTES:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, more than {MAX_MEMBER_BYTES:,}"
        )
    if not zipfile.is_zipfile(path):  # by content; roifile itself would go by the name
        drawn.try_each([path.read_bytes()], read)
        return drawn
    with zipfile.ZipFile(path) as archive:
        refuse_unsafe_archive(path, archive)
        names = roi_names(archive)
        total_bytes = sum(archive.getinfo(name).file_size for name in names)
        if total_bytes > MAX_MEMBER_BYTES:
            raise ValueError(
                f"{path} unpacks to {total_bytes:,} bytes, more than {MAX_MEMBER_BYTES:,}"
            )
        drawn.try_each(names, lambda name: read(archive.read(name)))
    return drawn
