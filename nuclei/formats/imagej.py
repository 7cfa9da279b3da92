"""nuclei.formats.imagej"""

import zipfile

import numpy as np

from nuclei.files import replacing
from nuclei.formats.geojson import ZIP_DATE
from nuclei.polygons import outlines

MAX_IMAGEJ_PX = 60535  # ImageJ's ROI file stores coordinates in 16 bits, from -5000 on


def imagej_roi(polygons, name):
    """A nucleus as a `roifile.ImagejRoi`: a traced polygon, or a composite where it has holes or several pieces."""
    import roifile

    rings = [ring[:, ::-1] for rings in polygons for ring in rings]  # (x, y)
    if len(rings) == 1:
        roi = roifile.ImagejRoi.frompoints(rings[0], name=name)
        roi.roitype = roifile.ROI_TYPE.TRACED  # as the wand makes them: the line runs along the edges of pixels
        roi.options = roifile.ROI_OPTIONS.NONE
        return roi
    path = []
    for ring in rings:
        path += [0, *ring[0]]  # move to
        for point in ring[1:]:
            path += [1, *point]  # line to
        path.append(4)  # close
    roi = roifile.ImagejRoi()
    roi.roitype, roi.name = roifile.ROI_TYPE.RECT, name  # ImageJ's mark of a composite is a box with a path behind it
    roi.multi_coordinates = np.array(path, np.float32)
    roi.shape_roi_size = len(path)
    corners = np.concatenate(rings)
    (roi.left, roi.top), (roi.right, roi.bottom) = (ends.tolist() for ends in (corners.min(axis=0), corners.max(axis=0)))
    return roi


def write_imagej(path, nuclei):
    """A zip of ROIs for the ROI manager of ImageJ and Fiji."""
    if max(nuclei.labels.shape) > MAX_IMAGEJ_PX:
        raise ValueError(
            f"{path}: an image of {nuclei.labels.shape[0]} x {nuclei.labels.shape[1]} px; ImageJ's ROI file ends at "
            f"{MAX_IMAGEJ_PX} px: export it as geojson"
        )
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for index, polygons in outlines(nuclei.labels):
            name = f"nucleus_{index:06d}"
            information = zipfile.ZipInfo(f"{name}.roi", ZIP_DATE)
            archive.writestr(information, imagej_roi(polygons, name).tobytes(), zipfile.ZIP_DEFLATED)
