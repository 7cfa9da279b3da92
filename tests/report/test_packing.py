"""Pictures, labels and measurements in the page, and their size."""

import numpy as np
import pytest
from report_tools import make, unpack
from synthetic import draw

from nuclei.report import packing
from nuclei.report import page as report_page
from nuclei.report.packing import LABEL_TYPE, STEPS, label_runs, pack_image


def test_runs_are_the_labels():
    random = np.random.default_rng(0)
    for shape in ((1, 1), (1, 9), (7, 1), (40, 30)):
        labels = (random.integers(0, 3, shape) * random.integers(0, 2, shape)).astype(np.uint32)
        ids, lengths = np.frombuffer(label_runs(labels), LABEL_TYPE).reshape(2, -1)
        np.testing.assert_array_equal(np.repeat(ids, lengths).reshape(shape), labels)
        assert (ids[1:] != ids[:-1]).all()


def test_an_image_is_reduced_as_far_as_its_space_asks():
    picture, labels = draw("tissue", 256, 200, seed=3)
    labels = labels.astype(np.int32)
    thumbnail = len(pack_image(picture, labels, 10**6).thumbnail)
    sizes = []
    for space in (10**6, 12_000, 6_000, 10):
        image = pack_image(picture, labels, space + thumbnail)
        sizes.append(len(image.picture) + len(image.labels))
        assert sizes[-1] <= space or space == 10
        ids, lengths = np.frombuffer(unpack(image.labels), LABEL_TYPE).reshape(2, -1)
        assert lengths.sum() == image.height * image.width
        assert set(ids) <= set(np.unique(labels))
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    assert pack_image(picture, labels, 10**6).height == 256
    assert image.height == 32  # the last step is taken even where it needs more space


@pytest.mark.parametrize("space", [10**6, 15_000, 12_000, 9_000, 6_000, 10])
def test_the_step_that_is_tried_first_changes_nothing_but_the_work(space, monkeypatch):
    picture, labels = draw("tissue", 256, 200, seed=3)
    images = [pack_image(picture, labels.astype(np.int32), space, k) for k in range(len(STEPS))]
    assert images == images[:1] * len(STEPS)
    encode_step, tried = packing.encode_step, []
    monkeypatch.setattr(packing, "encode_step", lambda *a: tried.append(a[2]) or encode_step(*a))
    pack_image(picture, labels.astype(np.int32), space, images[0].step)
    assert len(tried) <= 2


def test_a_large_image_is_shown_reduced(monkeypatch):
    monkeypatch.setattr("nuclei.report.packing.MAX_SIDE_PX", 64)
    picture, labels = draw("fluorescence", 256, 128, seed=3)
    image = pack_image(picture, labels.astype(np.int32), 10**6)
    assert (image.height, image.width) == (64, 32)


def test_many_images_stay_within_the_weight_of_a_page(folder, monkeypatch):
    make(folder)
    free = (folder / "found" / "report.html").stat().st_size
    monkeypatch.setattr(
        "nuclei.report.page.PAGE_MB", free / 1e6
    )  # too little, since RESERVE_BYTES are kept back
    make(folder)
    page = (folder / "found" / "report.html").stat().st_size
    assert page <= report_page.PAGE_MB * 1e6 and page < free
