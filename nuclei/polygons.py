"""nuclei.polygons"""

import numpy as np


def fill(polygons: list[list[np.ndarray]], shape: tuple[int, int]) -> np.ndarray:
    """Flat indices of the pixels of an image of this shape whose centres lie inside the polygons, ascending."""
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
            # Pixel (0, 0) has its centre at (0.5, 0.5) of the drawing.
            part[polygon(ring[:, 0] - 0.5 - top, ring[:, 1] - 0.5 - left, inside.shape)] ^= True
        inside |= part
    rows, columns = np.nonzero(inside)
    return (rows + top) * shape[1] + columns + left


def unpack_runs(counts, shape: tuple[int, int]) -> np.ndarray:
    """COCO's run lengths, down the columns, from background on: flat indices (row by row) of the pixels, ascending.

    counts: a list of numbers, or text: per number groups of 5 bits from the lowest on, as characters from "0" on, bit 6
    set where one more follows, the last group signed; from the third on each number is a difference to the last but one.
    """
    if isinstance(counts, str):
        lengths: list[int] = []
        value, bits = 0, 0
        for character in counts:
            group = ord(character) - 48
            value |= (group & 31) << bits
            bits += 5
            if not group & 32:
                value -= (group & 16) << (bits - 4)
                lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
                value, bits = 0, 0
        counts = lengths
    lengths_of_runs = np.array(counts, np.int64)
    if (lengths_of_runs < 0).any() or lengths_of_runs.sum() != shape[0] * shape[1]:
        raise ValueError(f"runs of {lengths_of_runs.sum():,} px in an image of {shape[0] * shape[1]:,} px")
    mask = np.repeat(np.arange(len(lengths_of_runs)) % 2 == 1, lengths_of_runs).reshape(shape[1], shape[0]).T
    return np.flatnonzero(mask)


def outlines(labels):
    """The outline of each nucleus along the edges of its pixels, so that the area inside is its number of pixels.

    Args:
        labels: (H, W) integer, 0 background.

    Yields:
        (id, polygons) by ascending id. A polygon is one piece of the nucleus (pixels joined by their edges): a list of
        rings, the outer one first, then its holes. A ring is (n, 2) int32, (row, column) of pixel corners, where
        (0, 0) is the upper left corner of the image; it is not closed (the first corner is not repeated), visits no
        corner twice, and its corners are real turns.
    """
    import cv2
    from scipy import ndimage

    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:  # an id without pixels
            continue
        num_pieces, pieces = cv2.connectedComponents((labels[box] == index).astype(np.uint8), connectivity=4)
        corner = np.array([box[0].start, box[1].start], np.int32)
        polygons = []
        for piece in range(1, num_pieces):
            # OpenCV walks through the centres of pixels, which would cut half a pixel off all around. In a picture of
            # twice the size each pixel has four, one for each of its corners: the walk then visits the corners.
            doubled = cv2.resize((pieces == piece).astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
            contours, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
            rings = []
            for contour in sorted(range(len(contours)), key=lambda contour: tree[0, contour, 3] >= 0):
                ring = (contours[contour][:, 0, ::-1] + 1) // 2
                rings.append(corner + ring[(ring != ring[np.arange(-1, len(ring) - 1)]).any(axis=1)])
            polygons.append(rings)
        yield index, polygons


def pack(nuclei):
    """Outlines, a list of polygons for each nucleus, as {"corners": (n, 2) int32, "lengths": int32}: for each nucleus its
    number of polygons, for each of these its number of rings, and for each of these its number of corners."""
    rings = [ring for polygons in nuclei for rings in polygons for ring in rings]
    lengths = [n for polygons in nuclei for n in (len(polygons), *(n for p in polygons for n in (len(p), *map(len, p))))]
    return {"corners": np.concatenate([np.zeros((0, 2)), *rings]).astype(np.int32), "lengths": np.array(lengths, np.int32)}


def unpack(corners, lengths):
    """What went into `pack`."""
    numbers, nuclei, start = iter(lengths.tolist()), [], 0
    for num_polygons in numbers:
        polygons = []
        for _ in range(num_polygons):
            rings = []
            for _ in range(next(numbers)):
                stop = start + next(numbers)
                rings.append(corners[start:stop])
                start = stop
            polygons.append(rings)
        nuclei.append(polygons)
    return nuclei


def pack_runs(mask):
    """COCO's run lengths of a (H, W) bool mask: down the columns, from background on."""
    down = mask.T.ravel()
    edges = np.flatnonzero(down[1:] != down[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [down.size]])).tolist()
    return [0, *lengths] if down[0] else lengths
