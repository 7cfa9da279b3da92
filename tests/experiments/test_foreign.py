"""foreign draws its pictures, shows them to a model and counts the flags."""

import numpy as np
from images_tools import discs, tissue
from PIL import Image

from experiments import foreign
from nuclei.model_file import MODELS


def test_pictures_are_shown_and_flags_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(foreign, "WITHOUT_CELLS", ("horse", "logo"))  # bool; with transparency
    (tmp_path / "tissue").mkdir()
    image = tissue(discs(120, 140))
    Image.fromarray(image).save(tmp_path / "tissue" / "a.png")
    flags = ["--invert", str(tmp_path / "tissue"), "--model", MODELS[1], "--out", str(tmp_path)]
    assert foreign.main(flags) == 0
    pictures = {
        path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "pictures").iterdir()
    }
    assert set(pictures) == {
        *("horse", "logo", "inverted_a", "noise", "gradient", "stripes", "patches")
    }
    assert np.array_equal(pictures["inverted_a"], 255 - image)
    assert all(picture.dtype == np.uint8 and np.ptp(picture) > 80 for picture in pictures.values())
    shown = capsys.readouterr().out.split(" of 7 pictures are flagged; not flagged")
    assert len(shown) == 2 and int(shown[0].split()[-1]) >= 1

    assert foreign.main(flags[2:]) == 0  # a second call counts its own pictures only
    text = capsys.readouterr().out
    assert " of 6 pictures are flagged" in text and "inverted_a" not in text.split("flagged;")[1]
    (tmp_path / "pictures" / "horse.png").write_bytes(b"mine")
    assert foreign.main(flags) == 1
    assert "horse.png was changed since this program wrote it" in capsys.readouterr().err
    assert (tmp_path / "pictures" / "horse.png").read_bytes() == b"mine"
