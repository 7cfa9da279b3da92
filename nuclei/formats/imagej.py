"""Regions of interest (ROIs) for ImageJ and Fiji: a zip that the ROI manager opens.

A nucleus in one piece is a traced polygon, as the wand tool makes it. A nucleus with holes or
several pieces is a composite. roifile writes the bytes of each ROI.

Format: https://imagej.net/ij/developer/source/ij/io/RoiDecoder.java.html
"""

import zipfile

import numpy as np

from nuclei.files import replacing
from nuclei.formats.geojson import ZIP_DATE
from nuclei.polygons import outlines

MAX_IMAGEJ_PX = 60535  # ImageJ stores coordinates in 16 bits, which start at -5000
MOVE_TO, LINE_TO, CLOSE = 0, 1, 4  # steps of a composite's path, numbered as in java.awt.geom


def composite_path(rings):
    """Rings of (x, y) corners as the flat list of numbers that ImageJ stores for a composite."""
    path = []
    for ring in rings:
        path += [MOVE_TO, *ring[0]]
        for point in ring[1:]:
            path += [LINE_TO, *point]
        path.append(CLOSE)
    return path


def imagej_roi(polygons, name):
    """The outline of a nucleus as a `roifile.ImagejRoi`.

    Args:
        polygons: as from `nuclei.polygons.outlines`, corners as (row, column).
        name: shown in the ROI manager.
    """
    import roifile

    rings = [ring[:, ::-1] for rings in polygons for ring in rings]
    if len(rings) == 1:
        roi = roifile.ImagejRoi.frompoints(rings[0], name=name)
        roi.roitype = roifile.ROI_TYPE.TRACED  # its line runs along the edges of pixels
        roi.options = roifile.ROI_OPTIONS.NONE
        return roi
    path = composite_path(rings)
    roi = roifile.ImagejRoi()
    roi.roitype, roi.name = roifile.ROI_TYPE.RECT, name  # a box with a path is ImageJ's composite
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    corners = np.concatenate(rings)
    roi.left, roi.top = corners.min(axis=0).tolist()
    roi.right, roi.bottom = corners.max(axis=0).tolist()
    return roi


def write_imagej(path, nuclei):
    """Write a `Nuclei` as a zip of ROIs, named nucleus_000001 and so on (needs roifile).

    Raises:
        ValueError: the image is wider or higher than ImageJ's ROIs can say.
    """
    height, width = nuclei.labels.shape
    if max(height, width) > MAX_IMAGEJ_PX:
        raise ValueError(
            f"{path}: the image has {height} x {width} px (height x width); ImageJ's ROIs reach to "
            f"{MAX_IMAGEJ_PX} px: export it as geojson"
        )
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for index, polygons in outlines(nuclei.labels):
            name = f"nucleus_{index:06d}"
            information = zipfile.ZipInfo(f"{name}.roi", ZIP_DATE)
            data = imagej_roi(polygons, name).tobytes()
            archive.writestr(information, data, zipfile.ZIP_DEFLATED)
