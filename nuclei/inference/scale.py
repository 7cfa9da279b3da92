"""nuclei.inference.scale"""

import cv2
import numpy as np

from nuclei.images.resize import Resized, resize_maps
from nuclei.inference.tiling import MARGIN_PX, MULTIPLE_PX, predict_tiled

SCALE_LIMITS = (0.1, 3.0)  # of the estimated scale: nuclei of 8 to 240 px for a network that knows 24 px
TOLERANCE = 1.35  # times too large or too small that a nucleus may be before zooming pays; the training's scale jitter
PROBES = 5  # looks at most; three are the rule where the scale is far off
SURER = 0.85  # of the uncertainty that another size may leave to be taken; from 0.78 to 0.89 validation images fare alike
SURE = 0.06  # uncertainty below which no smaller size is tried: of 291 validation images at four sizes none below was better smaller
UNSURE = 0.15  # uncertainty from which larger sizes are tried, too: dearer looks, and a network that is at home needs none
PROBE_SCALES = (0.4, 2.5)  # tried where nothing is found
PROBE_PX = 768  # side of a look at most; smaller images are looked at as a whole, and that look is the result


def predict_scaled(predict, image, num_maps, scale=1.0, **arguments):
    """Run a network over an image that is seen `scale` times as large.

    Args:
        scale: 1 for the image as it is.
        predict, image, num_maps, arguments: as `predict_tiled`.

    Returns:
        (H, W, num_maps) float32 at the size of `image`.
    """
    if scale == 1:
        return predict_tiled(predict, image, num_maps, **arguments)
    return resize_maps(predict_tiled(predict, Resized(image, scale), num_maps, **arguments), image.shape[:2])


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


def estimate_scale(
    predict, image, num_maps, diameter_px, measure, uncertainty=None, prepare=None, margin=MARGIN_PX, multiple=MULTIPLE_PX
):  # fmt: skip
    """How many times larger an image should be shown so that its nuclei have the size that the network knows.

    The network looks, the nuclei that it finds are measured, the image is scaled by what they are off, until they fit: also
    a network that misses half of the nuclei at the wrong size says whether the others are too large or too small. Much too
    large ones it takes to pieces of the size that it knows, though. So it looks once more at half the size, unless it is
    sure, and goes there if that leaves less uncertainty; and at twice the size, where it is in uncertainty, if that also fits better.

    Args:
        predict, image, num_maps, prepare, margin, multiple: as `predict_tiled`.
        diameter_px: median nucleus diameter that the network was trained for.
        measure: from maps (h, w, num_maps) to the median diameter in px of the nuclei in them, or None without any.
        uncertainty: from maps to how undecided they are, such as `image_uncertainty`; None goes by the size alone.

    Returns:
        (scale, maps): maps (H, W, num_maps) of the whole image at its own size where the last look covered it, else None.
        Without nuclei at any scale (1, None).
    """

    def look(scale, box=None):
        """Maps of the busiest part of the image, or of `box`, and that box: (top, left, bottom, right) of the image seen."""
        seen = Resized(image, scale) if scale != 1 else image
        if box is None:
            height, width = (min(length, PROBE_PX) for length in seen.shape[:2])
            top, left = 0, 0
            if (height, width) != tuple(seen.shape[:2]):  # sought in the image as it is, since that costs no resampling
                top, left = busiest_window(image, int(height / scale), int(width / scale))
                top, left = min(int(top * scale), seen.shape[0] - height), min(int(left * scale), seen.shape[1] - width)
            box = (top, left, top + height, left + width)
        part = seen[box[0] : box[2], box[1] : box[3]]
        part = part if prepare is None else prepare(part)
        return predict_tiled(predict, part, num_maps, margin=margin, multiple=multiple), box

    def size(scale):
        return Resized(image, scale).shape[:2]

    def misfit(found):
        return max(found / diameter_px, diameter_px / found) if found else np.inf

    scale, untried = 1.0, list(PROBE_SCALES)
    for _ in range(PROBES):
        maps, box = look(scale)
        found = measure(maps)
        if found is None:
            if not untried:
                return 1.0, None
            scale = untried.pop(0)
            continue
        if misfit(found) <= TOLERANCE or scale in SCALE_LIMITS:
            break
        scale = float(np.clip(scale * diameter_px / found, *SCALE_LIMITS))
        if max(scale, 1 / scale) <= TOLERANCE**0.5:
            scale = 1.0  # nearly native: interpolation would cost more than it gains
    else:
        return scale, None
    for factor in (0.5, 2.0) if uncertainty else ():
        began = scale
        while SCALE_LIMITS[0] <= scale * factor <= SCALE_LIMITS[1] and uncertainty(maps) > (SURE if factor < 1 else UNSURE):
            # Both are judged by the same part of the image, as much of it as a look may take.
            height, width = (min(length, int(PROBE_PX / max(1, factor))) for length in maps.shape[:2])
            top, left = (0, 0) if maps.shape[:2] == (height, width) else busiest_window(maps[..., :1], height, width)
            part = maps[top : top + height, left : left + width]
            corners = (box[0] + top, box[1] + left, box[0] + top + height, box[1] + left + width)
            other = np.rint(np.multiply(corners, np.tile(np.divide(size(scale * factor), size(scale)), 2))).astype(int)
            if other[0] == other[2] or other[1] == other[3]:
                break
            painted, _ = look(scale * factor, other)
            # At twice the size clumps of tiny nuclei fall apart and fit better; so do nuclei of the right size, but fit worse.
            if uncertainty(painted) > SURER * uncertainty(part) or (factor > 1 and misfit(measure(painted)) >= misfit(measure(part))):
                break
            scale, maps, box = scale * factor, painted, other
        if scale != began:
            break
    return scale, resize_maps(maps, image.shape[:2]) if maps.shape[:2] == tuple(size(scale)) else None


def predict_at_trained_scale(predict, image, num_maps, diameter_px, measure, uncertainty=None, scale=None, prepare=None, **arguments):
    """Run a network over an image, shown at the scale that brings its nuclei to the size that the network knows.

    Args:
        predict, image, num_maps, prepare, arguments: as `predict_tiled`.
        diameter_px, measure, uncertainty: as `estimate_scale`.
        scale: where it is known; None estimates it.

    Returns:
        (maps, scale): maps (H, W, num_maps) float32 at the size of `image`.
    """
    maps = None
    if scale is None:
        geometry = {name: arguments[name] for name in ("margin", "multiple") if name in arguments}
        scale, maps = estimate_scale(predict, image, num_maps, diameter_px, measure, uncertainty, prepare, **geometry)
    if maps is None:
        maps = predict_scaled(predict, image, num_maps, scale, prepare=prepare, **arguments)
    return maps, scale
