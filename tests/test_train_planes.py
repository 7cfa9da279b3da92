"""train.py on files of several channels: what it learns from, and what the model file says."""

from dataclasses import replace

import numpy as np
import tifffile
from PIL import Image
from stack_tools import nuclei_and_others

import train
from nuclei.training.samples import load_samples


def test_channels_are_trained_on_and_the_choice_goes_into_the_model(tmp_path):
    nuclei, cytoplasm, *_, labels = nuclei_and_others()
    for part in ("raw", "gt"):
        (tmp_path / part).mkdir()
    channels = np.stack([cytoplasm, nuclei])
    for stem in ("a", "b"):
        metadata = {"axes": "CYX"}
        tifffile.imwrite(tmp_path / "raw" / f"{stem}.tif", channels, imagej=True, metadata=metadata)
        Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "gt" / f"{stem}.png")
    flags = ["--data-dir", str(tmp_path), "--channel", "1", "--plane", "max"]
    recipe = train.parse_arguments(flags)[0]
    settings = recipe.for_model_file()
    assert (settings["channel"], settings["plane"]) == ("1", "max")
    for channel, expected in ((None, nuclei), (recipe.channel, cytoplasm)):
        lines = []
        places, reading = recipe.sets[0], replace(recipe.reading, channel=channel)
        paths = places.raw_dir, places.truth_dir
        samples = load_samples(*paths, lines.append, tmp_path, reading)[0]
        np.testing.assert_array_equal(samples["b"].image[..., 0], expected)
        assert any("of 2 is taken" in line for line in lines)
        assert any("the same of 1 more" in line for line in lines)
