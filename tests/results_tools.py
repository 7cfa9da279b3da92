"""Results of predict.py for tests, written without a network."""

from pathlib import Path

from nuclei.inference.find import Found, Options
from nuclei.model_file import Model
from nuclei.results.image import DEFAULT_FORMATS, write_results
from nuclei.results.jobs import Job, Run


def write_predictions(out, found: Found, stem, formats=DEFAULT_FORMATS, mpp=None, made_by="model"):
    """Write the files and rows of one image, as predict.py does, with a model that knows nothing.

    Args:
        out: the folder of the results.
        found: `Found(image, intensity, labels, maps, scale)`.
        stem: names the results; the file is called STEM.png.
        formats, mpp, made_by: as of `Job`, `Options` and `Run`.
    """
    model = Model(network=None, num_maps=found.maps.shape[-1], margin_px=0, multiple_px=1)
    job = Job(stem, Path(f"{stem}.png"), tuple(formats))
    write_results(found, job, Run(Path(out), model, Options(mpp=mpp), made_by))
