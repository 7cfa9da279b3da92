"""An image that is open: its pixels, its tiles for the page, and what the network sees in a part.

picture = open_picture(path, prediction)
picture.tile(0, 0, 0)
pixels, mpp = picture.cut(box)
maps = picture.maps(model, box, scale)      # of a part, at the size of the image
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from nuclei.app.predictions import Prediction
from nuclei.app.tiles import Pyramid
from nuclei.contents import Content, content_of, known_state
from nuclei.images.box import Box
from nuclei.images.intensity import intensity_range
from nuclei.images.reading import open_image


@dataclass(eq=False)
class Picture:
    """An open image.

    Attributes:
        image: (H, W, 3) uint8 or uint16.
        intensity: grey levels that become black and white.
        mpp: µm per pixel that the file states, or None.
        content: what the file was when it was read; None where nobody asks.
        step: px of the image for one px of a field.
    """

    image: np.ndarray
    intensity: tuple[float, float]
    mpp: float | None
    content: Content | None = None
    step: ClassVar[float] = 1.0

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the image."""
        return self.image.shape

    @property
    def num_pixels(self) -> int:
        """Height times width."""
        return self.image.shape[0] * self.image.shape[1]

    @cached_property
    def pyramid(self) -> Pyramid:
        """Its tiles."""
        return Pyramid(self.image, self.intensity)

    def tile(self, level: int, column: int, row: int) -> bytes | None:
        """A tile as JPEG; None where there is none."""
        return self.pyramid.tile(level, column, row)

    def cut(self, box: Box) -> tuple[np.ndarray, float | None]:
        """The pixels of a box, (h, w, 3), and their µm or None."""
        return self.image[box.place], self.mpp

    def maps(self, model, box: Box, scale: float | None) -> tuple[np.ndarray, float]:
        """What the network sees in a part of the image.

        Args:
            model: a `Model`.
            box: the part. The network also sees what is around it.
            scale: how many times larger it sees the image; None estimates it from the part.

        Returns:
            (maps, scale): (rows, columns, K) float32 of the box.
        """
        from nuclei.inference.find import Options, predict_maps  # late: it imports OpenCV

        margin_px = int(np.ceil(model.margin_px / (scale or 1)))
        whole = Box.of_shape(self.image.shape)
        seen = Box(
            max(whole.top, box.top - margin_px),
            min(whole.bottom, box.bottom + margin_px),
            max(whole.left, box.left - margin_px),
            min(whole.right, box.right + margin_px),
        )
        part = np.ascontiguousarray(self.image[seen.place])
        estimate = predict_maps(model, part, self.intensity, Options(scale=scale))
        return estimate.maps[box.relative_to(seen).place], estimate.scale


def open_picture(path: Path, prediction: Prediction | None) -> Picture:
    """Open the image of a file. Raises: as `open_image`."""
    state = known_state(path)
    file = open_image(path)
    intensity = prediction.intensity if prediction else intensity_range(file.image)
    levels = float(intensity[0]), float(intensity[1])
    return Picture(file.image, levels, file.mpp, content_of(path, state))
