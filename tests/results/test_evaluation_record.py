"""evaluation.json is read as evaluate.py wrote it; whatever became of it, the page holds."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import evaluate
from experiments.campaign.damage import mutated_texts
from nuclei.images.writing import write_labels
from nuclei.report.inputs import Evaluation
from nuclei.report.sections import SCORE_COLUMNS, headline, scores_section
from nuclei.results.evaluation_record import PAGE_SCORES, read_evaluation_record


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """evaluation.json of two images, one without nuclei: some of its scores are undefined."""
    folder = tmp_path_factory.mktemp("evaluated")
    labels = np.zeros((20, 20), np.int32)
    for name, number in (("a", 1), ("b", 0)):
        labels[4:9, 4:9] = number
        for kind in ("found", "truth"):
            (folder / kind).mkdir(exist_ok=True)
            write_labels(folder / kind, name, labels)
    assert evaluate.main([str(folder / "found"), str(folder / "truth"), "--quiet"]) == 0
    return folder / "found" / "evaluation.json"


def use(record):
    """Do with an evaluation what report.py does with it."""
    evaluation = Evaluation(record)
    assert isinstance(evaluation.by_stem, dict)
    scores_section(evaluation, "folder")
    headline(SimpleNamespace(rows=[], num_images=1, num_nuclei=1), evaluation)


def test_the_scores_of_a_page_are_checked():
    assert set(PAGE_SCORES) == {name for name, *_ in SCORE_COLUMNS}


def test_an_evaluation_comes_back_as_it_was_written(written):
    record = read_evaluation_record(written)
    assert record == json.loads(written.read_text(encoding="utf-8"))
    use(record)


def test_a_damaged_evaluation_is_refused_in_one_line_or_can_be_shown(written, tmp_path):
    record, path = json.loads(written.read_text(encoding="utf-8")), tmp_path / "evaluation.json"
    num_refused, number = 0, 300
    for text in mutated_texts(record, number, seed=3):
        path.write_bytes(text)
        try:
            damaged = read_evaluation_record(path)
        except ValueError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            num_refused += 1
        else:
            use(damaged)
    assert number / 4 < num_refused < number
