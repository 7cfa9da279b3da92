"""Outlines of nuclei: from labels to polygons, and from polygons or run lengths back to pixels.

A *ring* is (n, 2), the (row, column) of its corners, where (0, 0) is the upper left corner of the
image; the first corner is not repeated at the end. A *polygon* is a list of rings, the outer one
first, then its holes. A *nucleus* is a list of polygons, one for each piece.
"""

from collections.abc import Iterable, Iterator

import numpy as np

Polygon = list[np.ndarray]


def outlines(labels: np.ndarray) -> Iterator[tuple[int, list[Polygon]]]:
    """Trace the outline of each nucleus along the edges of its pixels.

    The area inside an outline equals the number of pixels of the nucleus.

    Args:
        labels: (H, W) integer, 0 background.

    Yields:
        (id, polygons) by ascending id, one polygon for each piece of the nucleus (pixels joined by
        their edges). Rings are (n, 2) int32, visit no corner twice, and turn at each corner.
    """
    from scipy import ndimage

    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:  # None: an id without pixels
            corner = np.array([box[0].start, box[1].start], np.int32)
            yield index, trace(labels[box] == index, corner)


def trace(mask: np.ndarray, corner: np.ndarray) -> list[Polygon]:
    """The polygons of a (H, W) bool mask whose upper left corner lies at `corner` of the image."""
    import cv2

    num_pieces, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    polygons = []
    for piece in range(1, num_pieces):
        # OpenCV walks through the centres of pixels, which would cut half a pixel off all around.
        # At twice the size, each pixel has four centres, one for each of its corners.
        doubled = cv2.resize(
            (pieces == piece).astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST
        )
        contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        outer_first = sorted(range(len(contours)), key=lambda index: tree[0, index, 3] >= 0)
        rings = []
        for index in outer_first:
            ring = (contours[index][:, 0, ::-1] + 1) // 2
            moved = (ring != ring[np.arange(-1, len(ring) - 1)]).any(axis=1)
            rings.append(corner + ring[moved])
        polygons.append(rings)
    return polygons


def fill(polygons: list[Polygon], shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres lie inside the polygons of one nucleus.

    Args:
        polygons: rings of (n, 2) numbers. An even number of rings of one polygon encloses a hole.
        shape: height and width of the image in pixels; what lies outside is cut off.

    Returns:
        (n,) flat indices, row by row, ascending.

    Raises:
        ValueError: a coordinate is infinite or NaN.
    """
    from skimage.draw import polygon

    points = np.concatenate([ring for rings in polygons for ring in rings])
    if not np.isfinite(points).all():
        raise ValueError("a coordinate is no finite number")
    top, left = np.clip(np.floor(points.min(axis=0)), 0, shape).astype(int)
    bottom, right = np.clip(np.ceil(points.max(axis=0)), 0, shape).astype(int)
    inside = np.zeros((max(0, bottom - top), max(0, right - left)), bool)
    for rings in polygons if inside.size else ():
        part = np.zeros_like(inside)
        for ring in rings:
            # The centre of pixel (0, 0) is at (0.5, 0.5).
            rows, columns = ring[:, 0] - 0.5 - top, ring[:, 1] - 0.5 - left
            part[polygon(rows, columns, inside.shape)] ^= True
        inside |= part
    rows, columns = np.nonzero(inside)
    return (rows + top) * shape[1] + columns + left


def pack(nuclei: Iterable[list[Polygon]]) -> dict[str, np.ndarray]:
    """The outlines of many nuclei as two arrays, for an npz file.

    Returns:
        "corners", (n, 2) int32: all corners one after the other; "lengths", int32: for each nucleus
        its number of polygons, for each polygon its number of rings, and for each ring its number
        of corners.
    """
    corners, lengths = [np.zeros((0, 2))], []
    for polygons in nuclei:
        lengths.append(len(polygons))
        for rings in polygons:
            lengths.append(len(rings))
            lengths.extend(len(ring) for ring in rings)
            corners.extend(rings)
    return {
        "corners": np.concatenate(corners).astype(np.int32),
        "lengths": np.array(lengths, np.int32),
    }


def unpack(corners: np.ndarray, lengths: np.ndarray) -> list[list[Polygon]]:
    """The outlines that `pack` made the two arrays from: a list of polygons for each nucleus.

    Raises:
        ValueError: the arrays do not fit together.
    """
    numbers, nuclei, start = iter(lengths.tolist()), [], 0
    for num_polygons in numbers:
        polygons = []
        for _ in range(num_polygons):
            rings = []
            for _ in range(next(numbers, 0)):
                stop = start + next(numbers, 0)
                rings.append(corners[start:stop])
                start = stop
            polygons.append(rings)
        nuclei.append(polygons)
    if start != len(corners):
        raise ValueError(f"{len(corners)} corners came; expected the {start} of all rings")
    return nuclei


def pack_runs(mask: np.ndarray) -> list[int]:
    """COCO's run lengths of a (H, W) bool mask: down the columns, the first run is background."""
    down = mask.T.ravel()
    edges = np.flatnonzero(down[1:] != down[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [down.size]])).tolist()
    return [0, *lengths] if down[0] else lengths


def unpack_runs(counts: list[int] | str, shape: tuple[int, int]) -> np.ndarray:
    """The pixels of a mask given as COCO's run lengths.

    Args:
        counts: the lengths as numbers (see `pack_runs`) or as text (see `runs_from_text`).
        shape: height and width of the image in pixels.

    Returns:
        (n,) flat indices, row by row, ascending.

    Raises:
        ValueError: the runs do not add up to the pixels of the image.
    """
    lengths = np.array(runs_from_text(counts) if isinstance(counts, str) else counts, np.int64)
    num_pixels = shape[0] * shape[1]
    if (lengths < 0).any() or lengths.sum() != num_pixels:
        raise ValueError(f"runs of {lengths.sum():,} px in an image of {num_pixels:,} px")
    is_nucleus = np.arange(len(lengths)) % 2 == 1
    return np.flatnonzero(np.repeat(is_nucleus, lengths).reshape(shape[1], shape[0]).T)


def runs_from_text(text: str) -> list[int]:
    """Run lengths from COCO's compressed text.

    A number is written in groups of 5 bits, the lowest first, as characters from "0" on. Bit 6 is
    set where another group follows; the last group is signed. From the fourth number on, each is
    the difference to the last but one.
    """
    lengths: list[int] = []
    value, bits = 0, 0
    for character in text:
        group = ord(character) - 48
        value |= (group & 31) << bits
        bits += 5
        if not group & 32:
            value -= (group & 16) << (bits - 4)
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value, bits = 0, 0
    return lengths
