"""Examples that all tests of formats share."""

import pytest
from formats_tools import draw_examples, write_example_predictions


@pytest.fixture(scope="module")
def examples():
    """{stem: (image, labels)}: tissue, fluorescence, and odd shapes."""
    return draw_examples()


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """A folder as predict.py leaves it, with the images beside it in raw/."""
    folder = tmp_path_factory.mktemp("run")
    write_example_predictions(folder)
    return folder / "out"
