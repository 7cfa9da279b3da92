"""A call of predict.py ends with a line or two of advice, however many images need it."""

import pytest

from nuclei.results.tally import Tally


def tally(counts, flags, channel=""):
    result = Tally()
    for number, (count, flag) in enumerate(zip(counts, flags, strict=True)):
        row = {"image": f"image{number}", "nuclei": count, "out_of_distribution": flag}
        result.add(row | {"channel": channel})
    return result


def test_no_advice_where_all_is_well():
    assert tally([3, 4], [0, ""]).advice() == []


@pytest.mark.parametrize("channel", ["", "DAPI"])
def test_two_lines_for_five_hundred_images(channel):
    lines = tally([0] * 500, [1] * 500, channel).advice()
    assert len(lines) == 2 and max(map(len, lines)) < 300
    assert "500 of 500 images (image0, " in lines[0] and "and 495 more" in lines[0]
    for word in ("--diameter", "--mpp", "fine-tuning"):
        assert all(word in line for line in lines)
    assert all(("--channel" in line) == bool(channel) for line in lines)


def test_images_and_slides_add_up():
    failed = Tally(failures=["a.png: damaged"])
    total = tally([3, 0], [0, 1]) + failed + tally([5], [0])
    assert (total.num_images, total.num_nuclei, total.failures) == (3, 8, ["a.png: damaged"])
    assert total.empty == total.unusual == ["image1"]
