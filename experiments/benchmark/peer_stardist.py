"""Time StarDist: the arguments are repeats, the folder of a model or "", and images.

It prints RESULT and JSON. It runs in an environment of its own and imports nothing of this project.
Without a folder it takes StarDist's published weights, which StarDist fetches. Where that fails, a
network of the same size with random weights is timed; it finds nothing, which flatters it.
"""

import json
import sys
import time

import numpy as np
from csbdeep.utils import normalize
from PIL import Image
from stardist.models import Config2D, StarDist2D


def load(folder):
    """The model, and words on its weights."""
    if folder:
        parent, _, name = folder.rpartition("/")
        return StarDist2D(None, name=name, basedir=parent), folder
    try:
        name = "2D_versatile_fluo"
        return StarDist2D.from_pretrained(name), name
    except Exception:
        config = Config2D(axes="YXC", n_channel_in=3, n_rays=32, grid=(2, 2))
        model = StarDist2D(config, name=None, basedir=None)
        model.thresholds = {"prob": 0.9999, "nms": 0.4}
        return model, "untrained network of the size of its default, nothing to find"


def main():
    """Time the search for nuclei in all images, and print the result."""
    repeats, folder, paths = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    model, weights = load(folder)
    in_colour = model.config.n_channel_in == 3

    def find(path):
        image = np.array(Image.open(path).convert("RGB"))
        image = normalize(image if in_colour else image.mean(-1), 1, 99.8)
        return image.shape, int(model.predict_instances(image)[0].max())

    pixels = sum(shape[0] * shape[1] for shape, _ in map(find, paths))
    seconds, nuclei = [], 0
    for _ in range(repeats):
        started = time.perf_counter()
        nuclei = sum(number for _, number in map(find, paths))
        seconds.append(time.perf_counter() - started)
    result = {
        "seconds": float(np.median(seconds)),
        "pixels": pixels,
        "nuclei": nuclei,
        "weights": weights,
    }
    print("RESULT" + json.dumps(result))


if __name__ == "__main__":
    main()
