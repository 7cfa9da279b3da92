"""A region predicted anew, with another threshold or scale, in place of what is there.

propose(draft, box, picture, model, threshold=0.3, scale=None)
"""

import numpy as np

from nuclei.app.canvas import Draft
from nuclei.app.edits import Refused, limited
from nuclei.app.picture import Picture
from nuclei.images.box import Box
from nuclei.instances.separate import SMALLEST_PX, THRESHOLDS, marker_heights, separate

MAX_REGION_PX = 2000  # side of a region; more takes too long for an answer on the page
MIN_FREE_SHARE = 0.5  # of a new nucleus that no other one covers


def propose(
    draft: Draft, box: Box, picture: Picture, model, threshold: float | None, scale: float | None
) -> None:
    """Replace the nuclei whose middle lies in a box by what the network finds there now.

    Args:
        draft: of the edit.
        box: the region.
        picture: the image.
        model: a `Model`.
        threshold: probability above which a pixel is nucleus; None takes the model's.
        scale: how many times larger the network sees the image; None estimates it.
    """
    if max(limited(box).shape) > MAX_REGION_PX:
        raise Refused(f"A region of more than {MAX_REGION_PX:,} px takes too long: choose a part.")
    canvas = draft.canvas
    margin_px = int(np.ceil(2 * model.diameter_px / (scale or 1)))
    area = canvas.around(box, margin_px=margin_px)  # nuclei across the border are seen whole
    maps, scale = picture.maps(model, area, scale)
    thresholds = {**THRESHOLDS, **model.thresholds}
    if threshold is not None:
        thresholds |= {"nucleus_threshold": threshold, "min_probability": threshold}
    found = separate(maps, scale=scale, **thresholds)
    old = [index for index in np.unique(canvas.labels[area.place]).tolist() if index]
    for index in old:
        if is_middle_in(canvas.boxes[index], box):
            place, mask = draft.mask(index)
            draft.put(place, np.where(mask, 0, canvas.labels[place.place]))
    pixels = canvas.labels[area.place].copy()
    for index, place in places(found):
        mask = (found[place.place] == index) & (pixels[place.place] == 0)
        size = np.count_nonzero(found[place.place] == index)
        in_image = place.shifted(area.top, area.left)
        is_free = mask.sum() >= max(SMALLEST_PX, MIN_FREE_SHARE * size)
        if is_free and is_middle_in(in_image, box):
            pixels[place.place][mask] = draft.new_id()
    draft.put(area, pixels)
    if not draft.pieces:
        raise Refused("The network finds nothing here: lower the threshold, or draw the nucleus.")


def places(labels: np.ndarray) -> list[tuple[int, Box]]:
    """(id, box) of each nucleus in labels."""
    from scipy import ndimage

    return [
        (index, Box(place[0].start, place[0].stop, place[1].start, place[1].stop))
        for index, place in enumerate(ndimage.find_objects(labels), start=1)
        if place is not None
    ]


def is_middle_in(inner: Box, outer: Box) -> bool:
    """Whether the middle of a box lies in another one."""
    row, column = (inner.top + inner.bottom) / 2, (inner.left + inner.right) / 2
    return outer.top <= row < outer.bottom and outer.left <= column < outer.right


def heights_of(picture: Picture, model, scale: float | None):
    """The function that `split_by_points` asks for the maps of a part of the image."""

    def heights(box: Box) -> np.ndarray | None:
        maps, seen_at = picture.maps(model, box, scale)
        if maps.shape[-1] < 2:  # the network has no distance map
            return None
        thresholds = {**THRESHOLDS, **model.thresholds}
        smoothing_px = thresholds["smoothing_px"] / seen_at
        return marker_heights(maps, thresholds["contact_weight"], smoothing_px)

    return heights
