"""The check says what a data set holds, what is wrong, and whether training can run."""

import numpy as np
import pytest
from images_tools import GREY, LABELS, data_set, discs, fluorescence, save, tissue

import import_data


def test_the_check_tells_what_is_there(tmp_path, capsys):
    data_set(tmp_path)
    labels = discs(120, 140)
    save(tmp_path / "raw" / "slide.tif", tissue(labels), photometric="rgb")
    save(tmp_path / "gt" / "slide.jpg", (labels > 0) * np.uint8(255), quality=60)
    save(tmp_path / "raw" / "none.png", np.full((50, 50), 6, np.uint16))
    save(tmp_path / "gt" / "none.png", np.zeros((50, 50), np.uint8))
    assert import_data.main([str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    fluorescent = next(line for line in lines if line.startswith("fluorescence"))
    for part in ("5 ", "50 x 50, 96 x 112", "uint16, uint8", "empty 1, instances 4", "36", "12."):
        assert part in fluorescent
    slide = next(line for line in lines if line.startswith("tissue"))
    for part in ("120 x 140", "binary (lossy JPEG) 1", " 9 ", "12."):
        assert part in slide
    text = "\n".join(lines)
    assert "6 sound pairs" in text and "touching nuclei are merged" in text and "(slide)" in text
    assert "1 truth that is empty (valid" in text and lines[-1] == "Training can run on this data."


def test_the_check_lists_every_kind_of_problem_five_names_at_most(tmp_path, capsys):
    data_set(tmp_path, 8)
    (tmp_path / "raw" / "notes.svs").write_text("x")
    (tmp_path / "raw" / ".DS_Store").write_text("x")
    for index in range(7):
        save(tmp_path / "raw" / f"alone{index}.png", GREY)
    save(tmp_path / "gt" / "orphan.png", LABELS.astype(np.uint8))
    save(tmp_path / "gt" / "image0.png", LABELS[:50].astype(np.uint8))
    (tmp_path / "raw" / "image1.png").write_bytes(
        (tmp_path / "raw" / "image2.png").read_bytes()[:500]
    )
    (tmp_path / "gt" / "image2.png").unlink()
    save(tmp_path / "gt" / "image2.jpg", (discs(count=36, radius=7) * 7).astype(np.uint8))
    save(tmp_path / "gt" / "image3.png", np.full(GREY.shape, 255, np.uint8))
    assert import_data.main([str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert (
        "7 images without truth" in text
        and "alone4.png\n    and 2 more" in text
        and "alone5.png" not in text
    )
    assert "1 truth without an image (left out of training):\n    orphan.png" in text
    assert "3 pairs that cannot be used" in text and "expected equal sizes" in text
    assert "image1.png is damaged" in text and "ids of nuclei saved as JPEG" in text
    assert "1 truth that is more than 90% nucleus" in text
    assert "1 other files (left out):" in text and "notes.svs" in text and ".DS_Store" not in text
    assert "Training could not run: repair or remove the pairs" in text


@pytest.mark.parametrize(
    ("count", "form", "message"),
    [
        (1, lambda labels: labels.astype(np.uint8), "at least two sound pairs"),
        (3, lambda labels: np.zeros(labels.shape, np.uint8), "no truth shows both"),
    ],
)
def test_data_that_cannot_be_learnt_from_ends_with_1(tmp_path, capsys, count, form, message):
    data_set(tmp_path, count, form)
    assert import_data.main([str(tmp_path)]) == 1
    assert message in capsys.readouterr().out


def test_sizes_are_summed_up_beyond_two(tmp_path, capsys):
    for side in (40, 50, 60):
        labels = discs(side, side, count=4)
        save(tmp_path / "raw" / f"{side}.png", fluorescence(labels))
        save(tmp_path / "gt" / f"{side}.png", labels.astype(np.uint8))
    assert import_data.main([str(tmp_path)]) == 0
    assert "40 x 40 ... 60 x 60 (3 sizes)" in capsys.readouterr().out
