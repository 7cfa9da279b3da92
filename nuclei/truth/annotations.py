"""Read ground truth that is drawn as outlines, whatever tool wrote it.

    truth = read_outlines("data/gt/a.geojson", shape=(1024, 1024))
    truth.left_out                  # "points or lines 2"

GeoJSON of QuPath, ImageJ's ROIs, the JSON of COCO, LabelMe and VIA, and the XML of Aperio and CVAT
are recognised by content.
An outline becomes the pixels whose centres lie inside.
"""

from pathlib import Path

import numpy as np

from nuclei.files import existing_file, explaining_damage, first_line
from nuclei.images.labels import merge_nuclei
from nuclei.images.stems import stem_of
from nuclei.polygons import fill
from nuclei.truth.drawn_regions import are_regions, divided_groups, split_crowds
from nuclei.truth.forms import EMPTY, INSTANCES, Truth
from nuclei.truth.json_outlines import json_outlines
from nuclei.truth.outline import CROWDS, DAMAGED, NO_LOSS, OUTSIDE, REGIONS, Drawn
from nuclei.truth.rois import holds_rois, roi_outlines
from nuclei.truth.xml_outlines import xml_outlines

# A suffix stands before the shorter one that it ends in.
OUTLINE_SUFFIXES = (".geojson.gz", ".geojson.zip", ".geojson", ".json", ".zip", ".roi", ".xml")
EXPECTED = (
    "GeoJSON as QuPath writes it, ImageJ ROIs (one or a zip), JSON of COCO, LabelMe or VIA, or XML "
    "of Aperio or CVAT"
)


def read_outlines(path, shape: tuple[int, int] | None, stem: str | None = None) -> Truth:
    """Fill the outlines of a file: a pixel belongs to a nucleus when its centre lies inside.

    These files are understood: GeoJSON of QuPath (detections, cells by their nucleus, annotations;
    also in a gz or zip), an ImageJ ROI or a zip of them, the JSON of COCO, LabelMe and VIA, the XML
    of Aperio and CVAT. Where nuclei overlap, the smaller one lies on top. Points, lines, damaged
    objects, groups in one mask, what QuPath itself ignores (classes ending in *) and a large
    annotation around other objects are left out, and counted in the result. An object of many
    pieces is divided into them.

    Args:
        path: a file of OUTLINE_SUFFIXES.
        shape: height and width of its image in pixels.
        stem: of its image, for files that describe several; None takes the name of the file.

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
    existing_file(path)
    shape = (int(shape[0]), int(shape[1]))
    stem = stem_of(path, OUTLINE_SUFFIXES) if stem is None else stem
    drawn = parse_outlines(path, stem, shape)
    nuclei = filled(drawn, path, shape)
    labels = merge_nuclei(nuclei, shape)[0]
    form = INSTANCES if nuclei else EMPTY
    left_out, meaning = drawn.summary(), drawn.meaning()
    return Truth(labels, form, repaired=0.0, left_out=left_out, meaning=meaning)


def parse_outlines(path: Path, stem: str, shape: tuple[int, int]) -> Drawn:
    """Parse a file.

    Raises:
        ValueError: as `read_outlines`.
    """

    def damage(error):
        return (
            f"is damaged or no file of outlines ({type(error).__name__}: {first_line(error)}); "
            f"expected {EXPECTED}: export it again"
        )

    with explaining_damage(path, damage):
        if path.suffix.lower() == ".xml":
            return xml_outlines(path, stem, shape)
        return roi_outlines(path) if holds_rois(path) else json_outlines(path, stem, shape)


def filled(drawn: Drawn, path: Path, shape: tuple[int, int]) -> list[np.ndarray]:
    """Fill the outlines of a file and leave out what is no nucleus; `drawn` counts it.

    Returns:
        For each nucleus the flat indices of its pixels.

    Raises:
        ValueError: most objects are damaged, none is an outline, or none lies inside the image.
    """
    outlines, nuclei = [], []

    def read(outline):
        nuclei.append(fill(outline.polygons, shape) if outline.pixels is None else outline.pixels)
        outlines.append(outline)

    drawn.try_each(drawn.outlines, read)
    num_damaged = drawn.left_out[DAMAGED]
    if num_damaged > len(outlines):
        raise ValueError(
            f"{path} is damaged or no file of outlines ({num_damaged} of "
            f"{num_damaged + len(outlines)} objects; the first: {drawn.fault}); expected "
            f"{EXPECTED}: export it again"
        )
    if not outlines and any(drawn.left_out[kind] for kind in drawn.left_out if kind not in NO_LOSS):
        raise ValueError(
            f"{path} holds {drawn.summary()} and no area among them; expected outlines of nuclei"
        )
    if outlines and not any(nucleus.size for nucleus in nuclei):
        raise ValueError(
            f"{path} holds {len(outlines)} outlines and none lies inside its image of {shape[0]} x "
            f"{shape[1]} px (height x width); was it drawn on another image, or at another scale?"
        )
    outlines, nuclei, drawn.num_groups = divided_groups(outlines, nuclei, shape)
    outlines, nuclei, num_crowds = split_crowds(outlines, nuclei, shape[1])
    regions = are_regions(outlines, nuclei)
    num_outside = sum(not nucleus.size for nucleus in nuclei)
    for kind, count in ((CROWDS, num_crowds), (REGIONS, sum(regions)), (OUTSIDE, num_outside)):
        drawn.leave_out(kind, count)
    return [
        nucleus
        for nucleus, is_region in zip(nuclei, regions, strict=True)
        if nucleus.size and not is_region
    ]
