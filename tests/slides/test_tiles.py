"""The tiles partition a slide and see far enough."""

import numpy as np
import pytest

from nuclei.images.resize import taps
from nuclei.slides.setup import Setup
from nuclei.slides.tiles import cut_tiles

OVERLAP_PX, MARGIN_PX, MULTIPLE_PX = 30, 16, 8


@pytest.mark.parametrize("shape", [(1, 1), (15, 700), (333, 97), (512, 512), (377, 601)])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("side_px", [200, 256, 1024])
def test_tiles_partition_the_slide_and_see_far_enough(shape, scale, side_px):
    seen_shape = tuple(max(1, round(length * scale)) for length in shape)
    setup = Setup(
        key="k",
        shape=shape,
        seen_shape=seen_shape,
        scale=scale,
        intensity=(0, 1),
        white=255,
        kind="tissue",
        has_dab=False,
        side_px=side_px,
        margin_px=MARGIN_PX,
        multiple_px=MULTIPLE_PX,
        region_px=int((side_px - 2 * MARGIN_PX - MULTIPLE_PX - 4) / scale),
        overlap_px=OVERLAP_PX,
    )
    count = np.zeros(shape, int)
    for tile in cut_tiles(setup):
        count[tile.core.place] += 1
        for axis in (0, 1):
            core, region, window = (
                box[2 * axis :][:2] for box in (tile.core, tile.region, tile.window)
            )
            assert region[0] == max(0, core[0] - OVERLAP_PX)
            assert region[1] == min(shape[axis], core[1] + OVERLAP_PX)
            needed = taps(*region, seen_shape[axis], shape[axis])[0]
            assert window[0] % MULTIPLE_PX == window[1] % MULTIPLE_PX == 0
            assert window[1] - window[0] <= side_px
            assert window[0] == 0 or needed.min() - window[0] >= MARGIN_PX
            assert window[1] >= seen_shape[axis] or window[1] - needed.max() - 1 >= MARGIN_PX
    assert (count == 1).all()
