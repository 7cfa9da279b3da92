"""Cover an image of any height and width with windows, run the network on each, stitch without a seam.

    maps = predict_tiled(model.predict_on_batch, image, num_maps=2)      # (H, W, 3) in [0, 1] -> (H, W, 2)

Windows overlap by twice the network's receptive radius and each pixel is taken from a window in which it lies at least
that far from every cut, so that no blending is needed: the stitched maps equal those of the whole image at once.
Sizes that the network cannot halve often enough are filled up by reflection, inside, and cut off again.

    maps = predict_zoomed(model.predict_on_batch, image, num_maps=2, zoom=0.5)   # run at half size; maps at the image's

A network knows nuclei of the size that it was trained for; `zoom` brings others there. The image is resampled window by
window, so that a large one is never held twice.
"""

from typing import NamedTuple

import cv2
import numpy as np

TILE_PX = 2048  # height and width of a window at most; smaller ones need less memory but spend more of their work on overlap
MARGIN_PX = 224  # of a window that another window knows better; at least `unet.receptive_radius` (217 px)
MULTIPLE_PX = 32  # `unet.size_multiple` of the default network
SMOOTHING = 0.4  # sigma of the blur before shrinking, in pixels of the result
ZOOM_LIMITS = (0.1, 3.0)  # of the estimated scale: nuclei of 8 to 240 px for a network that knows 24 px
TOLERANCE = 1.35  # times too large or too small that a nucleus may be before zooming pays; the training's scale jitter
PROBES = 5  # looks at most; three are the rule where the scale is far off
SURER = 0.85  # of the doubt that another size may leave to be taken; from 0.78 to 0.89 validation images fare alike
SURE = 0.06  # doubt below which no smaller size is tried: of 291 validation images at four sizes none below was better smaller
UNSURE = 0.15  # doubt from which larger sizes are tried, too: dearer looks, and a network that is at home needs none
PROBE_ZOOMS = (0.4, 2.5)  # tried where nothing is found
PROBE_PX = 768  # side of a look at most; smaller images are looked at as a whole, and that look is the result
BLUR_PAD_PX = 64  # columns added before a blur: OpenCV rounds the last few of a row unlike the others
SMOOTH_FROM = 1.2  # image pixels for one of the result, below which nothing is blurred


class Window(NamedTuple):
    """Pixels to read, rows [top, bottom) and columns [left, right), and among them those to keep.

    bottom and right may lie beyond the image, by less than the size multiple; the core never does.
    """

    top: int
    bottom: int
    left: int
    right: int
    core_top: int
    core_bottom: int
    core_left: int
    core_right: int


def cut_axis(length, tile, margin, multiple):
    """Windows along one axis: a list of (start, stop, core_start, core_stop); the cores partition [0, length).

    All starts and stops are multiples of `multiple`, so that pooling meets the same pixels in every window.

    Raises:
        ValueError: the tile leaves no core between its margins.
    """
    padded = -(-length // multiple) * multiple
    tile = tile // multiple * multiple
    margin = -(-margin // multiple) * multiple
    if padded <= tile:
        return [(0, padded, 0, length)]
    if tile < 2 * margin + multiple:
        raise ValueError(f"a tile of {tile} px has no core between margins of {margin} px; give --tile {3 * margin} or more")
    # As many windows as it takes, then all as small as so many can be: what overlaps is work done twice.
    number = -(-(padded - 2 * margin) // (tile - 2 * margin))
    tile = -(-(padded + 2 * margin * (number - 1)) // (number * multiple)) * multiple
    cuts, start, core_start = [], 0, 0
    while True:
        start = min(start, padded - tile)
        last = start + tile == padded
        core_stop = length if last else start + tile - margin
        cuts.append((start, start + tile, core_start, core_stop))
        if last:
            return cuts
        core_start = core_stop
        start += tile - 2 * margin


def cut(height, width, tile=TILE_PX, margin=MARGIN_PX, multiple=MULTIPLE_PX):
    """Windows that cover an image; their cores partition it.

    Args:
        height, width: of the image, 1 or more.
        tile: height and width of a window at most; an image that fits into one is taken whole.
        margin: see MARGIN_PX.
        multiple: see MULTIPLE_PX.

    Returns:
        A list of `Window`, rows first.
    """
    return [
        Window(top, bottom, left, right, core_top, core_bottom, core_left, core_right)
        for top, bottom, core_top, core_bottom in cut_axis(height, tile, margin, multiple)
        for left, right, core_left, core_right in cut_axis(width, tile, margin, multiple)
    ]


def taps(start, stop, length, full):
    """Where the pixels of a resized axis come from: pixel k of [start, stop) is the sum of weights[:, k] * old[indices[:, k]].

    Linear where it grows, the mean of the area covered where it shrinks. All positions are those of the whole axis, so that
    a part comes out as that part of the whole, to the last bit. By hand, since OpenCV measures positions in single precision
    from the start of what it is given: each part its own way.

    Args:
        start, stop: the part, in pixels of the resized axis.
        length, full: pixels of the whole axis before and after.

    Returns:
        (indices, weights): (taps, stop - start) intp within [0, length), and float32.
    """
    step = length / full
    pixels = np.arange(start, stop)
    if step <= 1:
        at = np.clip((pixels + 0.5) * step - 0.5, 0, length - 1)
        before = np.minimum(at.astype(np.intp), max(0, length - 2))
        weights = [1 - (at - before), at - before]
    else:
        from_, to = pixels * step, (pixels + 1) * step
        before = from_.astype(np.intp)
        weights = [
            np.clip(np.minimum(to, before + k + 1) - np.maximum(from_, before + k), 0, None) / step
            for k in range(int(np.ceil(step)) + 1)
        ]
    indices = np.minimum(before + np.arange(len(weights))[:, None], length - 1)
    return indices, np.array(weights, np.float32)


def weighted(array, axis, indices, weights):
    """The sums of `taps` along one axis (0 or 1) of (h, w, C) float32; a sparse matrix takes half the time of indexing."""
    from scipy.sparse import csr_array  # here: its import takes longer than all of a small image

    count, number = indices.shape
    shape = (number, array.shape[axis])
    matrix = csr_array((weights.T.ravel(), indices.T.ravel(), np.arange(0, count * number + 1, count)), shape=shape)
    array = np.ascontiguousarray(array.swapaxes(0, axis))
    return np.ascontiguousarray((matrix @ array.reshape(len(array), -1)).reshape(number, *array.shape[1:]).swapaxes(0, axis))


class Resized:
    """An image at another scale, computed where it is read: `Resized(image, zoom)[top:bottom, left:right]`.

    Bilinear, and smoothed first where it shrinks, as the crops of the training are. Any part equals that part of the whole.

    Args:
        image: (H, W, C), an array or anything that slices like one, of any number type.
        zoom: pixels of the result for one of the image; `shape` is that of the image times `zoom`, rounded, at least 1.
        size: height and width of the result, where they are known instead.
    """

    def __init__(self, image, zoom=1.0, size=None):
        self.image = image
        self.shape = (*(size or (max(1, round(length * zoom)) for length in image.shape[:2])), *image.shape[2:])
        self.steps = tuple(image.shape[axis] / self.shape[axis] for axis in (0, 1))

    def __getitem__(self, place):
        """(rows, columns, C) float32, in the units of the image."""
        sigmas = [SMOOTHING * step if step > SMOOTH_FROM else 0.0 for step in self.steps]
        shares, needed = [], []
        for part, length, full, step, sigma in zip(place, self.shape, self.image.shape, self.steps, sigmas, strict=False):
            start, stop, _ = part.indices(length)
            at = np.clip((np.arange(start, stop) + 0.5) * step - 0.5, 0, full - 1)
            before = np.minimum(at.astype(np.intp), max(0, full - 2))
            reach = int(np.ceil(4 * sigma)) + 2  # OpenCV cuts the Gaussian of a float image off at four sigma
            first, last = max(0, int(before[0]) - reach), min(full, int(before[-1]) + reach + 2)
            share = (at - before).astype(np.float32)
            shares.append((np.stack([before, np.minimum(before + 1, full - 1)]) - first, np.stack([1 - share, share])))
            needed.append(slice(first, last))
        part = np.ascontiguousarray(self.image[needed[0], needed[1]], dtype=np.float32)
        if any(sigmas):
            near_zero = 1e-3  # OpenCV takes a sigma of zero as "like the other axis"
            width = part.shape[1]
            part = np.pad(part, ((0, 0), (0, BLUR_PAD_PX), (0, 0)), "reflect")
            part = cv2.GaussianBlur(
                part, (0, 0), max(sigmas[1], near_zero), None, max(sigmas[0], near_zero), cv2.BORDER_REFLECT_101
            )[:, :width]
        for axis, (indices, weights) in enumerate(shares):
            part = weighted(part, axis, indices, weights)
        return part


def read_window(image, window):
    """The pixels of a window, (rows, columns, C); beyond the image it is filled up by reflection."""
    part = np.asarray(image[window.top : window.bottom, window.left : window.right])
    below, beside = window.bottom - window.top - part.shape[0], window.right - window.left - part.shape[1]
    return np.pad(part, ((0, below), (0, beside), (0, 0)), mode="reflect") if below or beside else part


def predict_tiled(predict, image, num_maps, prepare=None, tile=TILE_PX, margin=MARGIN_PX, multiple=MULTIPLE_PX, batch_size=1):
    """Run a network over an image of any size.

    Args:
        predict: from (B, h, w, 3) float32 to (B, h, w, num_maps), such as `model.predict_on_batch`.
        image: (H, W, 3), an array or anything that slices like one.
        num_maps: channels of the network's output.
        prepare: applied to each window before the network, such as the normalisation with the range of the whole
            image; None where `image` is float32 in [0, 1] already.
        tile, margin, multiple: see `cut`.
        batch_size: windows in one call of the network.

    Returns:
        (H, W, num_maps) float32.
    """
    height, width = image.shape[:2]
    maps = np.empty((height, width, num_maps), np.float32)
    windows = cut(height, width, tile, margin, multiple)
    for first in range(0, len(windows), batch_size):
        group = windows[first : first + batch_size]
        parts = [read_window(image, window) for window in group]
        batch = np.stack([part if prepare is None else prepare(part) for part in parts]).astype(np.float32, copy=False)
        for window, painted in zip(group, np.asarray(predict(batch)), strict=True):
            w = window
            maps[w.core_top : w.core_bottom, w.core_left : w.core_right] = painted[
                w.core_top - w.top : w.core_bottom - w.top, w.core_left - w.left : w.core_right - w.left
            ]
    return maps


def predict_zoomed(predict, image, num_maps, zoom=1.0, **arguments):
    """Run a network over an image that is seen `zoom` times as large.

    Args:
        zoom: 1 for the image as it is.
        predict, image, num_maps, arguments: as `predict_tiled`.

    Returns:
        (H, W, num_maps) float32 at the size of `image`.
    """
    if zoom == 1:
        return predict_tiled(predict, image, num_maps, **arguments)
    return resize_maps(predict_tiled(predict, Resized(image, zoom), num_maps, **arguments), image.shape[:2])


def resize_maps(maps, shape, whole=None, origin=(0, 0), place=None):
    """Bring maps (h, w, K) to the height and width of `shape`; float32.

    Where only a part is there and wanted, that part comes out as from the whole, to the last bit:

    Args:
        whole: height and width of the whole maps, of which `maps` is the part at `origin` (row, column).
        place: (top, bottom, left, right) of the result wanted, in pixels of `shape`.
    """
    whole = maps.shape[:2] if whole is None else whole
    place = (0, shape[0], 0, shape[1]) if place is None else place
    for axis in (0, 1):
        start, stop = place[2 * axis : 2 * axis + 2]
        if whole[axis] == shape[axis]:
            maps = maps.take(range(start - origin[axis], stop - origin[axis]), axis)
            continue
        indices, weights = taps(start, stop, whole[axis], shape[axis])
        maps = weighted(maps, axis, indices - origin[axis], weights)
    return maps


def busiest_window(image, height, width):
    """(top, left) of the window of this size where grey levels change most: where nuclei are, if there are any."""
    height, width = (min(part, full) for part, full in zip((height, width), image.shape, strict=False))
    step = max(1, max(image.shape[:2]) // 512)
    small = np.asarray(image[::step, ::step], np.float32).mean(-1)
    change = np.abs(np.diff(small, axis=0, prepend=small[:1])) + np.abs(np.diff(small, axis=1, prepend=small[:, :1]))
    box = (max(1, width // step), max(1, height // step))
    total = cv2.boxFilter(change, -1, box, anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
    total = total[: max(1, small.shape[0] - box[1] + 1), : max(1, small.shape[1] - box[0] + 1)]
    top, left = np.unravel_index(total.argmax(), total.shape)
    return min(int(top) * step, image.shape[0] - height), min(int(left) * step, image.shape[1] - width)


def estimate_zoom(
    predict, image, num_maps, diameter_px, measure, doubt=None, prepare=None, margin=MARGIN_PX, multiple=MULTIPLE_PX
):  # fmt: skip
    """How many times larger an image should be shown so that its nuclei have the size that the network knows.

    The network looks, the nuclei that it finds are measured, the image is zoomed by what they are off, until they fit: also
    a network that misses half of the nuclei at the wrong size says whether the others are too large or too small. Much too
    large ones it takes to pieces of the size that it knows, though. So it looks once more at half the size, unless it is
    sure, and goes there if that leaves less doubt; and at twice the size, where it is in doubt, if that also fits better.

    Args:
        predict, image, num_maps, prepare, margin, multiple: as `predict_tiled`.
        diameter_px: median nucleus diameter that the network was trained for.
        measure: from maps (h, w, num_maps) to the median diameter in px of the nuclei in them, or None without any.
        doubt: from maps to how undecided they are, such as `instances.image_doubt`; None goes by the size alone.

    Returns:
        (zoom, maps): maps (H, W, num_maps) of the whole image at its own size where the last look covered it, else None.
        Without nuclei at any zoom (1, None).
    """

    def look(zoom, box=None):
        """Maps of the busiest part of the image, or of `box`, and that box: (top, left, bottom, right) of the image seen."""
        seen = Resized(image, zoom) if zoom != 1 else image
        if box is None:
            height, width = (min(length, PROBE_PX) for length in seen.shape[:2])
            top, left = 0, 0
            if (height, width) != tuple(seen.shape[:2]):  # sought in the image as it is, since that costs no resampling
                top, left = busiest_window(image, int(height / zoom), int(width / zoom))
                top, left = min(int(top * zoom), seen.shape[0] - height), min(int(left * zoom), seen.shape[1] - width)
            box = (top, left, top + height, left + width)
        part = seen[box[0] : box[2], box[1] : box[3]]
        part = part if prepare is None else prepare(part)
        return predict_tiled(predict, part, num_maps, margin=margin, multiple=multiple), box

    def size(zoom):
        return Resized(image, zoom).shape[:2]

    def misfit(found):
        return max(found / diameter_px, diameter_px / found) if found else np.inf

    zoom, untried = 1.0, list(PROBE_ZOOMS)
    for _ in range(PROBES):
        maps, box = look(zoom)
        found = measure(maps)
        if found is None:
            if not untried:
                return 1.0, None
            zoom = untried.pop(0)
            continue
        if misfit(found) <= TOLERANCE or zoom in ZOOM_LIMITS:
            break
        zoom = float(np.clip(zoom * diameter_px / found, *ZOOM_LIMITS))
        if max(zoom, 1 / zoom) <= TOLERANCE**0.5:
            zoom = 1.0  # nearly native: interpolation would cost more than it gains
    else:
        return zoom, None
    for factor in (0.5, 2.0) if doubt else ():
        began = zoom
        while ZOOM_LIMITS[0] <= zoom * factor <= ZOOM_LIMITS[1] and doubt(maps) > (SURE if factor < 1 else UNSURE):
            # Both are judged by the same part of the image, as much of it as a look may take.
            height, width = (min(length, int(PROBE_PX / max(1, factor))) for length in maps.shape[:2])
            top, left = (0, 0) if maps.shape[:2] == (height, width) else busiest_window(maps[..., :1], height, width)
            part = maps[top : top + height, left : left + width]
            corners = (box[0] + top, box[1] + left, box[0] + top + height, box[1] + left + width)
            other = np.rint(np.multiply(corners, np.tile(np.divide(size(zoom * factor), size(zoom)), 2))).astype(int)
            if other[0] == other[2] or other[1] == other[3]:
                break
            painted, _ = look(zoom * factor, other)
            # At twice the size clumps of tiny nuclei fall apart and fit better; so do nuclei of the right size, but fit worse.
            if doubt(painted) > SURER * doubt(part) or (factor > 1 and misfit(measure(painted)) >= misfit(measure(part))):
                break
            zoom, maps, box = zoom * factor, painted, other
        if zoom != began:
            break
    return zoom, resize_maps(maps, image.shape[:2]) if maps.shape[:2] == tuple(size(zoom)) else None


def predict_at_known_size(predict, image, num_maps, diameter_px, measure, doubt=None, zoom=None, prepare=None, **arguments):
    """Run a network over an image, shown at the zoom that brings its nuclei to the size that the network knows.

    Args:
        predict, image, num_maps, prepare, arguments: as `predict_tiled`.
        diameter_px, measure, doubt: as `estimate_zoom`.
        zoom: where it is known; None estimates it.

    Returns:
        (maps, zoom): maps (H, W, num_maps) float32 at the size of `image`.
    """
    maps = None
    if zoom is None:
        geometry = {name: arguments[name] for name in ("margin", "multiple") if name in arguments}
        zoom, maps = estimate_zoom(predict, image, num_maps, diameter_px, measure, doubt, prepare, **geometry)
    if maps is None:
        maps = predict_zoomed(predict, image, num_maps, zoom, prepare=prepare, **arguments)
    return maps, zoom


def dihedral(predict):
    """The network averaged over the eight flips and quarter turns of its input: a function like `predict`.

    References:
        Moshkov et al. 2020, "Test-time augmentation for deep learning-based cell segmentation on microscopy images".
    """

    def averaged(batch):
        total = 0.0
        for turns in range(4):
            for mirrored in (False, True):
                seen = np.rot90(batch, turns, (1, 2))
                painted = np.asarray(predict(np.ascontiguousarray(seen[:, :, ::-1] if mirrored else seen)))
                total = total + np.rot90(painted[:, :, ::-1] if mirrored else painted, -turns, (1, 2))
        return total / np.float32(8)

    return averaged
