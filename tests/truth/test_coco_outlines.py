"""COCO as its tools write it: brushes, ids as text, paths of Windows, one file for a set."""

import numpy as np
import pytest
from formats_tools import disc, worst_overlap
from images_tools import fluorescence, save
from outline_tools import CENTRES, NUM, SHAPE, coco, flat, rings, runs, truth_labels, write_json

import evaluate
import import_data
from nuclei.datasets.pairs import find_pairs, find_truths, read_pair
from nuclei.truth.masks import read_truth

MASKS = [disc(SHAPE, *centre) for centre in CENTRES]


def read(tmp_path, data, **options):
    return read_truth(write_json(tmp_path / "a.json", data), SHAPE, **options)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("mark", [1, "1", True])
def test_masks_of_cvats_brush_are_nuclei(tmp_path, compressed, mark):
    truth = read(tmp_path, coco([runs(mask, compressed) for mask in MASKS], iscrowd=mark))
    np.testing.assert_array_equal(truth.labels, truth_labels())
    assert truth.form == "instances" and truth.left_out == ""


def test_polygons_and_the_brush_mix_and_slips_of_the_brush_stay_with_their_nucleus(tmp_path):
    data = coco([[flat(ring)] for ring in rings()[:-2]], iscrowd=0)
    slipped = MASKS[-1].copy()
    slipped[88, 2] = True
    data["annotations"] += coco([runs(MASKS[-2]), runs(slipped)], iscrowd=1)["annotations"]
    truth = read(tmp_path, data)
    assert truth.labels.max() == NUM and worst_overlap(truth_labels(), truth.labels) > 0.95
    assert truth.labels[88, 2] == truth.labels[CENTRES[-1][:2]]


def test_groups_are_left_out_and_counted_or_divided_where_they_lie_apart(tmp_path):
    ground = np.zeros(SHAPE, bool)
    ground[60:] = True  # three nuclei and all between them, far larger than one
    data = coco([[flat(ring)] for ring in rings()[:6]], iscrowd=0)
    data["annotations"] += coco([runs(ground)], iscrowd=1)["annotations"]
    truth = read(tmp_path, data)
    assert truth.labels.max() == 6 and truth.left_out == "crowd regions 1"
    # Three nuclei in one mask, each apart from the others.
    data["annotations"][-1]["segmentation"] = runs(MASKS[6] | MASKS[7] | MASKS[8])
    truth = read(tmp_path, data)
    assert truth.labels.max() == NUM and truth.left_out == ""
    # Where a tool writes masks without the mark, the mark means what the standard says.
    data["annotations"] += coco([runs(MASKS[0])], iscrowd=0)["annotations"]
    assert read(tmp_path, data).left_out == "crowd regions 1"


@pytest.mark.parametrize("image_id", ["1", 1.0, "1 ", "0001", "a.png"])
def test_ids_match_as_text_and_as_numbers(tmp_path, image_id):
    data = coco([[flat(ring)] for ring in rings()], image_id=image_id)
    assert read(tmp_path, data).labels.max() == NUM


def test_annotations_of_unknown_images_are_counted_and_are_no_empty_image(tmp_path):
    data = coco([[flat(ring)] for ring in rings()])
    data["annotations"][0]["image_id"] = 5
    truth = read(tmp_path, data)
    assert truth.labels.max() == NUM - 1
    assert truth.left_out == "annotations of images that the file does not list 1"
    for annotation in data["annotations"]:
        annotation["image_id"] = 5
    with pytest.raises(ValueError, match="does not list 9 and no area among them"):
        read(tmp_path, data)
    assert read(tmp_path, coco([])).form == "empty"
    with pytest.raises(ValueError, match="boxes without an outline 3 and no area"):
        read(tmp_path, coco([[], None, [[5, 5, 20, 20]]]))


def test_polygons_in_all_their_spellings_and_one_damaged_among_them(tmp_path):
    first, second, *others = rings()
    drawings = [flat(first), second, *([flat(ring)] for ring in others)]
    assert worst_overlap(truth_labels(), read(tmp_path, coco(drawings)).labels) > 0.95
    drawings[0] = [flat(first), [60.0, 45.0]]  # a stray point, as COCO Annotator leaves it
    for damaged in ([[1, 2, 3]], [[1, 2]], [["a", 2, 3, 4, 5, 6]], {"counts": "no"}, 7):
        truth = read(tmp_path, coco([*drawings, damaged]))
        assert truth.labels.max() == NUM and truth.left_out == "damaged objects 1"
    turned = {"size": list(SHAPE[::-1]), "counts": runs(MASKS[0])["counts"]}
    assert read(tmp_path, coco([*drawings, turned])).left_out == "damaged objects 1"
    assert read(tmp_path, coco(drawings, ignore=1)).left_out == "objects of ignored classes 9"


def test_images_of_other_sizes_and_of_one_id_are_refused(tmp_path):
    data = coco([[flat(ring)] for ring in rings()])
    data["images"].append({"id": 1, "file_name": "b.png"})
    with pytest.raises(ValueError, match="2 images the one id 1"):
        read(tmp_path, data)
    data["images"] = [{"id": 1, "file_name": "a.png", "height": 90, "width": 121}]
    with pytest.raises(ValueError, match="drawn on an image of 90 x 121 px"):
        read(tmp_path, data)
    data["images"][0].update(height="90", width=120.0)  # some tools write sizes in other forms
    assert read(tmp_path, data).labels.max() > 0
    data["images"][0].update(height=0, width=None)  # some tools do not know the size
    assert read(tmp_path, data).labels.max() == NUM


def test_segment_anything_has_one_image_and_no_ids(tmp_path):
    data = coco([runs(mask, True) for mask in MASKS])
    data["image"] = data.pop("images")[0]
    for annotation in data["annotations"]:
        del annotation["image_id"]
    np.testing.assert_array_equal(read(tmp_path, data).labels, truth_labels())
    masks = read(tmp_path, data["annotations"])  # what its automatic generator returns
    np.testing.assert_array_equal(masks.labels, truth_labels())


def whole_set(tmp_path, names=("images\\a.png", "images/b.png", "c.ome.tif", "lost.png")):
    data = coco([])
    data["images"] = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    for number in range(len(names)):
        for ring in rings()[number:]:
            data["annotations"].append({"image_id": number, "segmentation": [flat(ring)]})
    for name in ("a.png", "b.png", "c.ome.tif", "own.png"):
        save(tmp_path / "raw" / name, fluorescence(truth_labels()))
    save(tmp_path / "gt" / "own.png", truth_labels().astype(np.uint8))
    return write_json(tmp_path / "gt" / "instances_default.json", data)


def test_one_file_serves_the_whole_set(tmp_path, capsys):
    path = whole_set(tmp_path)
    pairs = find_pairs(tmp_path / "raw", tmp_path / "gt")
    counts = {stem: read_pair(*pair)[1].labels.max() for stem, pair in pairs.items()}
    assert counts == {"a": NUM, "b": NUM - 1, "c.ome": NUM - 2, "own": NUM}
    assert import_data.main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "4 sound pairs" in text and "instances_default.json: lost" in text
    # The same file given alone, and against predictions of the same names.
    assert set(find_truths(path, ["a", "b"])) == {"a", "b", "c.ome", "lost"}
    for stem in ("a", "b"):
        save(tmp_path / "labels" / f"{stem}.png", truth_labels().astype(np.uint8))
    arguments = [str(tmp_path / "labels"), str(path), "--out", str(tmp_path / "scores")]
    assert evaluate.main(arguments) == 1  # two predictions are missing
    assert "--allow-missing" in capsys.readouterr().err
    assert evaluate.main([*arguments, "--allow-missing"]) == 0


def test_names_that_tools_make_longer_find_their_images(tmp_path):
    whole_set(tmp_path, ("up/1a2b3c4d-a.png", "b_png.rf.0123abcd.jpg", "c.ome.tif"))
    pairs = find_pairs(tmp_path / "raw", tmp_path / "gt")
    counts = {stem: read_pair(*pair)[1].labels.max() for stem, pair in pairs.items()}
    assert counts == {"a": NUM, "b": NUM - 1, "c.ome": NUM - 2, "own": NUM}


def test_two_files_for_one_image_are_refused(tmp_path):
    path = whole_set(tmp_path)
    (tmp_path / "gt" / "instances_2.json").write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="described by .*keep one truth"):
        find_pairs(tmp_path / "raw", tmp_path / "gt")


@pytest.mark.parametrize("form", ["polygons", "runs"])
def test_one_mask_for_all_nuclei_is_divided(tmp_path, form):
    drawing = [flat(ring) for ring in rings()] if form == "polygons" else runs(truth_labels() > 0)
    truth = read_truth(write_json(tmp_path / "a.json", coco([drawing], iscrowd=0)), SHAPE)
    assert truth.labels.max() == NUM and "many pieces" in truth.meaning
    assert worst_overlap(truth_labels(), truth.labels) > 0.95
