"""Two folders compared: the forms of masks and what the notes say of them."""

import os

import numpy as np
import pytest
from matching_tools import discs, write_masks
from outline_tools import write_json
from PIL import Image

from nuclei.results.comparison import compare_pairs, pair_masks, read_prediction, score_confidence
from nuclei.scores import summarise


@pytest.fixture
def labels():
    """Labels of four nuclei; two of them touch."""
    return discs((60, 70), [(15, 15), (15, 24), (40, 40), (40, 60)], 5)


def compare(predicted_dir, truth_dir):
    """Sums of all images, and the notes."""
    pairs, notes = pair_masks(predicted_dir, truth_dir)
    comparisons, more_notes, _ = compare_pairs(pairs)
    return [comparison.sums for comparison in comparisons.values()], notes + more_notes


def test_binary_and_jpeg_masks_are_scored_and_named(tmp_path, labels):
    write_masks(tmp_path / "truth", dict.fromkeys("abcd", labels))
    write_masks(tmp_path / "masks", dict.fromkeys("abcd", 255 * (labels > 0)), np.uint8)
    sums, notes = compare(tmp_path / "masks", tmp_path / "truth")
    assert {row["num_predicted"] for row in sums} == {3} and {row["merges"] for row in sums} == {1}
    assert summarise(sums)["pooled"]["dice"]["value"] == 1
    assert notes == ["4 of 4 predicted masks are binary: touching nuclei count as one in them."]
    (tmp_path / "jpeg").mkdir()
    for path in (tmp_path / "masks").glob("*.png"):
        Image.open(path).save(tmp_path / "jpeg" / f"{path.stem}.jpg", quality=80)
    notes = compare(tmp_path / "truth", tmp_path / "jpeg")[1]
    assert any("4 of 4 true masks are lossy JPEG" in note for note in notes)


def test_a_label_image_of_one_nucleus_is_not_called_binary(tmp_path):
    write_masks(tmp_path / "truth", {"one": discs((30, 30), [(9, 9)], 5)})
    write_masks(tmp_path / "predicted", {"one": discs((30, 30), [(9, 9)], 4)})
    assert compare(tmp_path / "predicted", tmp_path / "truth")[1] == []


def test_a_file_is_not_compared_with_itself(tmp_path, labels):
    write_masks(tmp_path / "truth", dict.fromkeys("ab", labels))
    (tmp_path / "linked").mkdir()
    for path in (tmp_path / "truth").iterdir():
        os.link(path, tmp_path / "linked" / path.name)
    with pytest.raises(ValueError, match="one file"):
        compare(tmp_path / "linked", tmp_path / "truth")


def test_what_was_left_out_of_a_truth_is_said(tmp_path, labels):
    write_masks(tmp_path / "labels", {"a": labels})
    shapes = [{"shape_type": "circle", "points": [[15.5, 15.5], [20.5, 15.5]]}]
    shapes.append({"shape_type": "point", "points": [[40, 40]]})
    write_json(tmp_path / "truth" / "a.json", {"shapes": shapes})
    sums, notes = compare(tmp_path / "labels", tmp_path / "truth")
    assert len(sums) == 1
    assert notes == ["Left out of 1 files of truth: a.json: points or lines 1."]


def test_masks_of_few_values_are_named(tmp_path, labels):
    far = discs((200, 200), [(20, 20), (20, 180), (180, 20), (180, 180)], 9)
    write_masks(tmp_path / "truth", {"a": np.array([0, 1, 2, 1, 2])[far]})
    write_masks(tmp_path / "predicted", {"a": far})
    sums, notes = compare(tmp_path / "predicted", tmp_path / "truth")
    assert sums[0]["num_truth"] == 4 and sums[0]["tp_95"] == 4
    assert notes == [
        "1 of 1 true masks are of few values: touching nuclei of one value count as one in them."
    ]


def test_a_predicted_nucleus_in_two_pieces_is_one_nucleus(tmp_path):
    labels = np.zeros((64, 64), np.uint16)
    for number, column in enumerate(range(4, 60, 14), start=1):
        labels[4:14, column : column + 10] = labels[40:50, column : column + 10] = number
    Image.fromarray(labels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_prediction(tmp_path / "a.png")[0].labels, labels)


@pytest.mark.parametrize("row", ["a,one,0.9", "a,1,high", "a,,0.5", "a", "\xff,1,0.5"])
def test_a_damaged_table_of_confidences_is_named(tmp_path, labels, row):
    write_masks(tmp_path / "masks", {"a": labels})
    write_masks(tmp_path / "truth", {"a": labels})
    comparisons, *_ = compare_pairs(pair_masks(tmp_path / "masks", tmp_path / "truth")[0])
    table = tmp_path / "nuclei.csv"
    table.write_bytes(f"image,confidence,id\na,0.9,1\n{row}\n".encode("latin-1"))
    if row in ("a", "a,,0.5"):  # no confidence: nothing to score
        assert score_confidence(comparisons, table)
        return
    if row.startswith("a"):
        table.write_text("image,id,confidence\na,1,0.9\n" + row)
    with pytest.raises(ValueError, match="nuclei.csv is damaged.*predict the images again"):
        score_confidence(comparisons, table)


def test_a_confidence_belongs_to_its_nucleus_also_where_ids_have_gaps(tmp_path, labels):
    """A nucleus that was deleted by hand leaves a gap in the ids of the file."""
    predicted = np.where(labels == 2, 0, labels).astype(np.uint16)
    predicted[predicted == 4] = 0
    predicted[50:58, 2:10] = 4  # nowhere near a true one
    for folder, array in (("labels", predicted), ("truth", labels.astype(np.uint16))):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "a.png")
    comparisons, *_ = compare_pairs(pair_masks(tmp_path / "labels", tmp_path / "truth")[0])
    table = tmp_path / "nuclei.csv"
    table.write_text("image,id,confidence\na,1,1\na,2,0.5\na,3,1\na,4,0\n")
    error, bins = score_confidence(comparisons, table)  # 2 is not in the file any more
    assert error == 0 and sum(number for number, *_ in bins) == 3
