"""The readers of single files, called without the program around them: an input costs milliseconds.

main = reader("read_truth")
main(["data/gt/other.png"])         # 0, or 1 and one line, as a script does
"""

import importlib
from pathlib import Path
from types import SimpleNamespace

from experiments.campaign.originals import SHAPE
from nuclei.cli import user_errors_in_one_line

WHERE = {  # of the readers that take a path alone
    "open_image": "nuclei.images.reading",
    "declared_pixels": "nuclei.images.reading",
    "read_labels": "nuclei.images.labels",
    "read_table": "nuclei.results.tables",
    "facts_of": "nuclei.formats.predictions",
    "read_evaluation_record": "nuclei.results.evaluation_record",
    "read_history": "nuclei.results.history",
    "read_groups": "nuclei.results.groups",
    "read_split": "nuclei.datasets.split",
    "read_settings": "nuclei.model_file",
    "read_checkpoint": "nuclei.training.checkpoint",
}


def read_truth(path: Path):
    """Ground truth of the image other.png."""
    from nuclei.truth.masks import read_truth

    return read_truth(path, SHAPE, stem="other")


def look_at_slide(path: Path):
    """Open a slide, or a file that is none as an image, and look at all of it."""
    from nuclei.images.reading import open_image
    from nuclei.slides.formats import is_slide, open_slide

    return open_slide(path).thumbnail(64) if is_slide(path) else open_image(path)


def rows_of(path: Path):
    """nuclei.csv as the exports and as predict.py read it."""
    from nuclei.formats.predictions import tables_of
    from nuclei.results.tables import rewrite_rows

    tables_of(path, {"good": path, "other": path})
    rewrite_rows(path, lambda row: row)


def read_record(path: Path):
    """The record of what was written."""
    from nuclei.written import Record

    Record(path.parent).read()


def look_into_work(path: Path):
    """The work folder of a slide that was stopped."""
    from nuclei.slides.work import WorkFolder

    work = WorkFolder(path.parent)
    return work.read_setup(), work.count_nuclei(SimpleNamespace(index=0))


OWN = {
    function.__name__: function
    for function in (read_truth, look_at_slide, rows_of, read_record, look_into_work)
}
READERS = (*WHERE, *OWN)


def reader(name: str):
    """A reader as the `main` of a script: from a path to 0, or 1 and one line on stderr."""
    function = OWN.get(name) or getattr(importlib.import_module(WHERE[name]), name)

    @user_errors_in_one_line
    def main(argv):
        from nuclei.quiet import hush_readers

        hush_readers()
        function(Path(argv[0]))
        return 0

    return main
