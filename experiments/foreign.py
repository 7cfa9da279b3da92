"""Does a model say so where it is shown something foreign? Pictures without cells, inverted images.

    python -m experiments.foreign --model FILE --out foreign
    python -m experiments.foreign --invert TISSUE --out foreign    # and these images, inverted

The pictures are scikit-image's photographs, text, textures and skies, and drawn noise and stripes.
OUT/pictures holds them, OUT/found what predict.py finds there. The share of flagged pictures is
printed, and which are not flagged, with their number of nuclei.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import skimage.data
from PIL import Image

import predict
from nuclei.cli import command_line, user_errors_in_one_line
from nuclei.images.folder import find_images
from nuclei.images.reading import read_image
from nuclei.model_file import MODEL_HELP, MODELS
from nuclei.report.predictions import OUT_OF_DISTRIBUTION

WITHOUT_CELLS = (  # of those that come with the package
    *("astronaut", "brick", "camera", "chelsea", "checkerboard", "clock", "coffee", "coins"),
    *("colorwheel", "grass", "gravel", "horse", "hubble_deep_field", "logo", "microaneurysms"),
    *("moon", "page", "retina", "rocket", "shepp_logan_phantom", "text"),
)
HEIGHT, WIDTH = 400, 500  # of drawn pictures, in px


def drawn_pictures() -> dict[str, np.ndarray]:
    """{name: (H, W) or (H, W, 3) uint8} of noise, a gradient and stripes."""
    random = np.random.default_rng(0)
    columns = np.arange(WIDTH) * np.ones((HEIGHT, 1))
    patches = random.integers(0, 256, (HEIGHT // 10, WIDTH // 10, 3)).astype(np.uint8)
    return {
        "noise": random.normal(120, 30, (HEIGHT, WIDTH)).clip(0, 255).astype(np.uint8),
        "gradient": (columns * 255 / WIDTH).astype(np.uint8),
        "stripes": (127 + 120 * np.sin(columns / 9)).astype(np.uint8),
        "patches": np.asarray(Image.fromarray(patches).resize((WIDTH, HEIGHT), Image.BICUBIC)),
    }


def foreign_pictures(inverted: str | None) -> dict[str, np.ndarray]:
    """{name: picture, uint8} of all, with the images of the folder `inverted`, inverted."""
    pictures = {name: getattr(skimage.data, name)() for name in WITHOUT_CELLS} | drawn_pictures()
    for path in find_images(inverted).values() if inverted else ():
        image = read_image(path)
        pictures[f"inverted_{path.stem}"] = np.iinfo(image.dtype).max - image
    return {name: as_8_bit(picture) for name, picture in pictures.items()}


def as_8_bit(picture: np.ndarray) -> np.ndarray:
    """A picture of any dtype as uint8, without transparency."""
    if picture.dtype != np.uint8:
        values = picture.astype(float) - picture.min()
        picture = (255 * values / values.max()).astype(np.uint8)
    return picture[..., :3] if picture.ndim == 3 else picture


@user_errors_in_one_line
def main(argv=None):
    """Write the pictures, predict, and count. Returns: the exit status."""
    parser = command_line(__doc__)
    parser.add_argument("--model", metavar="MODEL", help=f"{MODEL_HELP} (default {MODELS[0]})")
    text = "folder of images that are shown inverted, too (default: none)"
    parser.add_argument("--invert", metavar="DIR", help=text)
    text = "folder of the results (default %(default)s)"
    parser.add_argument("--out", type=Path, default=Path("foreign"), metavar="DIR", help=text)
    args = parser.parse_args(argv)
    folder, found = args.out / "pictures", args.out / "found"
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in foreign_pictures(args.invert).items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    model = ["--model", args.model] if args.model else []
    formats = ["--formats", "labels,overlays,csv", "--overwrite"]
    status = predict.main([str(folder), "--out", str(found), *formats, *model])
    if status:
        return status
    table = pd.read_csv(found / "summary.csv", dtype={"image": str})
    flagged = table[OUT_OF_DISTRIBUTION] == 1
    print(f"{flagged.sum()} of {len(table)} pictures are flagged; not flagged, with their nuclei:")
    print(table[~flagged][["image", "nuclei"]].to_string(index=False, header=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
