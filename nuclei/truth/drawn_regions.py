"""Which of the drawn outlines are no nuclei: regions around others, groups in one mask.

Nuclei are flat indices of their pixels here, row by row, as `nuclei.polygons.fill` gives them.
"""

import numpy as np

from nuclei.images.labels import joined
from nuclei.polygons import fill
from nuclei.truth.outline import Outline

REGION_TIMES = 20  # an annotation this many times larger than the median outline may be a region
CROWD_TIMES = 8  # a piece of a crowd this many times larger than the median holds several nuclei
MIN_PIECES = 3  # of an outline, none of them the main one, from which it is a merged group
MIN_MAIN_SHARE = 0.8  # of a mask's pixels in its largest piece: the others are slips of the brush


def are_regions(outlines: list[Outline], nuclei: list[np.ndarray]) -> list[bool]:
    """Whether each outline is a region: a large one that holds two others or more.

    Args:
        outlines: of one file.
        nuclei: for each of them its pixels.
    """
    areas = np.array([nucleus.size for nucleus in nuclei])
    middles = np.array([nucleus[nucleus.size // 2] for nucleus in nuclei if nucleus.size])
    median_area = np.median(areas[areas > 0]) if middles.size else 0
    return [
        outline.may_be_region
        and nucleus.size > REGION_TIMES * median_area
        and bool(np.isin(middles, nucleus).sum() > 2)  # one of them is its own
        for outline, nucleus in zip(outlines, nuclei, strict=True)
    ]


def divided_groups(
    outlines: list[Outline], nuclei: list[np.ndarray], shape: tuple[int, int]
) -> tuple[list[Outline], list[np.ndarray], int]:
    """Divide objects of many polygons into these: all nuclei of an image, merged into one object.

    QuPath's "Merge selected", ImageJ's "Create Selection" and semantic masks of COCO make such
    objects. Detections stay as they are. Where the pieces are not polygons of their own, the object
    is marked for `split_crowds`.

    Args:
        outlines: of one file.
        nuclei: for each of them its pixels.
        shape: height and width of the image in pixels.

    Returns:
        The outlines, the nuclei, and the number of objects that hold many.
    """
    result, num_groups = [], 0
    for outline, nucleus in zip(outlines, nuclei, strict=True):
        if outline.may_be_crowd or not is_group(outline, nucleus, shape[1]):
            result.append((outline, nucleus))
            continue
        num_groups += 1
        if len(outline.polygons) < MIN_PIECES:
            result.append((outline._replace(may_be_crowd=True), nucleus))
            continue
        for polygon in outline.polygons:
            result.append((outline._replace(polygons=[polygon]), fill([polygon], shape)))
    return [outline for outline, _ in result], [nucleus for _, nucleus in result], num_groups


def is_group(outline: Outline, nucleus: np.ndarray, width: int) -> bool:
    """Whether an outline has many pieces, none of them the main one, and is no detection."""
    has_parts = outline.pixels is not None or sum(map(len, outline.polygons)) >= MIN_PIECES
    return outline.may_be_region and has_parts and len(pieces_of(nucleus, width)) >= MIN_PIECES


def split_crowds(
    outlines: list[Outline], nuclei: list[np.ndarray], width: int
) -> tuple[list[Outline], list[np.ndarray], int]:
    """Divide masks that may hold several nuclei into connected pieces.

    A mask of one piece, apart from slips of the brush, is a nucleus. A piece is left out where it
    is much larger than the nuclei: it shows several that touch.

    Args:
        outlines: of one file.
        nuclei: for each of them its pixels.
        width: of the image in px.

    Returns:
        The outlines, the nuclei, and the number of pieces left out.
    """
    pieces = [
        pieces_of(nucleus, width) if outline.may_be_crowd else [nucleus]
        for outline, nucleus in zip(outlines, nuclei, strict=True)
    ]
    single = [
        group[0].size
        for group, outline in zip(pieces, outlines, strict=True)
        if not outline.may_be_crowd and group[0].size
    ]
    areas = single if len(single) > 2 else [piece.size for group in pieces for piece in group]
    limit = CROWD_TIMES * np.median(areas) if areas else 0
    result, num_left_out = [], 0
    for outline, group in zip(outlines, pieces, strict=True):
        for piece in group:
            if outline.may_be_crowd and piece.size > limit:
                num_left_out += 1
            else:
                result.append((outline, piece))
    return [outline for outline, _ in result], [piece for _, piece in result], num_left_out


def pieces_of(nucleus: np.ndarray, width: int) -> list[np.ndarray]:
    """The connected pieces of a mask; the whole mask where one piece is nearly all of it."""
    if not nucleus.size:
        return [nucleus]
    rows, columns = np.divmod(nucleus, width)
    top, left = rows.min(), columns.min()
    mask = np.zeros((rows.max() - top + 1, columns.max() - left + 1), bool)
    mask[rows - top, columns - left] = True
    numbers = joined(mask)[rows - top, columns - left]
    if np.bincount(numbers).max() >= MIN_MAIN_SHARE * nucleus.size:
        return [nucleus]
    return [nucleus[numbers == number] for number in range(1, numbers.max() + 1)]
