"""COCO JSON is read by pycocotools."""

import numpy as np
import pandas as pd
import pytest
from formats_tools import run
from pycocotools.coco import COCO

from nuclei.formats.coco import write_coco
from nuclei.formats.registry import Nuclei
from nuclei.instances.measure import measure
from nuclei.polygons import pack_runs, unpack_runs


def test_coco_is_read_by_pycocotools(examples, predictions, tmp_path, capsys):
    assert run(predictions, "--formats", "coco", "--out", tmp_path) == 0
    for stem, (_, labels) in examples.items():
        coco = COCO(tmp_path / "coco" / f"{stem}.json")
        image = coco.loadImgs(coco.getImgIds())[0]
        assert (image["file_name"], image["height"], image["width"]) == (
            f"{stem}.png",
            *labels.shape,
        )
        assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["Nucleus"]
        annotations = coco.loadAnns(coco.getAnnIds())
        assert len(annotations) == labels.max()
        for index, annotation in enumerate(annotations, 1):
            mask = coco.annToMask(annotation) > 0
            true_mask = labels == index
            assert annotation["area"] == true_mask.sum() and annotation["score"] == pytest.approx(
                0.9
            )
            assert (mask & true_mask).sum() / (mask | true_mask).sum() >= 0.98, (stem, index)
            rows, columns = np.nonzero(true_mask)
            assert annotation["bbox"] == [
                columns.min(),
                rows.min(),
                np.ptp(columns) + 1,
                np.ptp(rows) + 1,
            ]


def test_run_lengths_agree_with_pycocotools_both_ways():
    from pycocotools import mask as coco_mask

    random = np.random.default_rng(1)
    for share in (0, 0.02, 0.5, 0.98, 1):
        mask = random.random((37, 150)) < share
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        np.testing.assert_array_equal(
            unpack_runs(encoded["counts"].decode(), mask.shape), np.flatnonzero(mask)
        )
        runs = pack_runs(mask)
        np.testing.assert_array_equal(unpack_runs(runs, mask.shape), np.flatnonzero(mask))
        packed = coco_mask.frPyObjects({"size": list(mask.shape), "counts": runs}, *mask.shape)
        np.testing.assert_array_equal(coco_mask.decode(packed) > 0, mask)


def test_a_hole_keeps_its_runs_at_both_ends_of_the_image(tmp_path):
    for labels in (np.ones((9, 9), np.int32), np.pad(np.ones((5, 5), np.int32), ((0, 4), (4, 0)))):
        labels[2, 6] = 0
        nuclei = Nuclei("x", "x.png", labels, pd.DataFrame(measure(labels)))
        write_coco(tmp_path / "x.json", nuclei)
        coco = COCO(tmp_path / "x.json")
        np.testing.assert_array_equal(coco.annToMask(coco.loadAnns(coco.getAnnIds())[0]), labels)
