"""From what the page asks for to an edit: which function of which room does it.

do_edit(corrected, request, picture, get_model, scale)
"""

from collections.abc import Callable

from nuclei.app import edits
from nuclei.app.corrected import Changes, CorrectedImage
from nuclei.app.propose import heights_of, propose
from nuclei.app.requests import (
    Brush,
    Draw,
    Grow,
    Head,
    Propose,
    Shrink,
    Split,
    Step,
    box_of,
    points,
)
from nuclei.app.split import split_by_points, split_by_stroke


def do_edit(
    corrected: CorrectedImage,
    request: Head,
    picture: Callable,
    model: Callable,
    scale: Callable,
) -> Changes:
    """Do what a request asks for.

    Args:
        corrected: the image.
        request: as of `read_edit`.
        picture: returns the `Picture`, called where the network is needed.
        model: returns the `Model`, the same.
        scale: returns at which scale the network sees the image, or None.

    Returns:
        The changes since the revision that the request is based on.

    Raises:
        Refused, Stale: as `CorrectedImage.edit`.
        ValueError: points that are none.
    """
    if isinstance(request, Step):
        return corrected.step(request)
    if isinstance(request, Propose):

        def action(draft):
            box = edits.limited(draft.canvas.around(box_of(request.box)))
            at = scale()
            if request.scale is not None:
                at = request.scale * (at or 1.0)
            propose(draft, box, picture(), model(), request.threshold, at)

        return corrected.edit(request, action)
    one = getattr(request, "id", None)
    ids = getattr(request, "ids", [] if one is None else [one])
    action = plain_action(request, lambda: heights_of(picture(), model(), scale()))
    return corrected.edit(request, action, ids)


def plain_action(request: Head, heights: Callable) -> Callable:
    """What a request other than `Propose`, undo and redo does to a draft."""
    if isinstance(request, Split):
        if request.stroke is not None:
            stroke = points(request.stroke)
            return lambda draft: split_by_stroke(draft, request.id, stroke)
        clicks = points(request.points)
        if len(clicks) != 2:
            raise edits.Refused("Choose two points, one in each nucleus.")
        return lambda draft: split_by_points(draft, request.id, clicks, heights())
    if isinstance(request, Draw):
        outline = points(request.outline)
        return lambda draft: edits.draw(draft, outline)
    if isinstance(request, Brush):
        stroke = points(request.stroke)
        return lambda draft: edits.brush(draft, request.id, stroke, request.radius, request.erase)
    if isinstance(request, Grow):
        return lambda draft: edits.grow(draft, request.ids, request.by)
    if isinstance(request, Shrink):
        return lambda draft: edits.shrink(draft, request.ids, request.by)
    function = {"delete": edits.delete, "merge": edits.merge}[request.kind]
    return lambda draft: function(draft, request.ids)
