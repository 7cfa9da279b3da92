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
from nuclei.cli import MODEL_HELP, add_overwrite_flag, command_line, user_errors_in_one_line
from nuclei.images.folder import find_images
from nuclei.images.reading import read_image
from nuclei.images.writing import write_png
from nuclei.model_file import MODELS
from nuclei.report.predictions import OUT_OF_DISTRIBUTION
from nuclei.written import recording

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
    for stem, path in find_images(inverted).items() if inverted else ():
        image = read_image(path)
        pictures[f"inverted_{stem}"] = np.iinfo(image.dtype).max - image
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
    text = f"{MODEL_HELP} (default {MODELS[0]}, or else {MODELS[1]})"
    parser.add_argument("--model", metavar="MODEL", help=text)
    text = "folder of images that are shown inverted, too (default: none)"
    parser.add_argument("--invert", metavar="DIR", help=text)
    text = "folder of the results (default %(default)s)"
    parser.add_argument("--out", type=Path, default=Path("foreign"), metavar="DIR", help=text)
    add_overwrite_flag(parser.add_argument)
    args = parser.parse_args(argv)
    found, pictures = args.out / "found", foreign_pictures(args.invert)
    files = {args.out / "pictures" / f"{name}.png": picture for name, picture in pictures.items()}
    flags = ["--out", str(found), "--formats", "labels,overlays,csv"]
    flags += ["--model", args.model] if args.model else []
    flags += ["--overwrite"] if args.overwrite else []
    inputs = find_images(args.invert).values() if args.invert else ()
    with recording(args.out, args.overwrite, inputs):
        for path, picture in files.items():
            write_png(path, picture)
        if status := predict.main([*map(str, files), *flags]):
            return status
    table = pd.read_csv(found / "summary.csv", dtype={"image": str})
    table = table[table["image"].isin(list(pictures))]  # others are of earlier calls
    flagged = table[OUT_OF_DISTRIBUTION] == 1
    print(f"{flagged.sum()} of {len(table)} pictures are flagged; not flagged, with their nuclei:")
    print(table[~flagged][["image", "nuclei"]].to_string(index=False, header=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
