"""What the programs import late: a campaign imports it once, before the forks that need it.

    import_all()

A module that is missing here costs time and nothing else: each worker then imports it. Keras is
left out: one input in 5,000 needs it, and a fork must not inherit its threads.
"""

import contextlib
import importlib

SCRIPTS = ("predict", "import_data", "evaluate", "exports", "report", "graph", "train")
IMPORTED = (
    *("pandas", "pandas.io.formats.csvs", "h5py", "pydantic.dataclasses", "tifffile.zarr"),
    *("plotly.graph_objects", "plotly.offline", "plotly.io._html", "webbrowser"),
    *("scipy.io", "scipy.ndimage", "scipy.spatial", "scipy.sparse.csgraph", "scipy.stats"),
    *(
        "skimage.draw.draw",
        "skimage.filters.thresholding",
        "skimage.measure",
        "skimage.segmentation",
    ),
    *("nuclei.inference.engines", "nuclei.schema"),
)
OPTIONAL = (
    *("bioio", "bioio_czi", "bioio_lif", "bioio_nd2", "openslide", "zarr", "roifile"),
    *("pyarrow.parquet", "pyarrow.pandas_compat", "imagecodecs"),
    *("starlette.applications", "uvicorn", "experiments.campaign.user"),
)


def import_all() -> None:
    """Import the scripts and all that they need, in this process."""
    for name in (*SCRIPTS, *IMPORTED):
        importlib.import_module(name)
    for name in OPTIONAL:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    prepare_pictures()


def prepare_pictures() -> None:
    """Draw a figure, and find the forms of pictures: Plotly and Pillow import these late."""
    from PIL import Image
    from plotly.offline import get_plotlyjs

    from nuclei.report.page import packed_script
    from nuclei.results.curves import draw_curves

    Image.init()
    columns = {"epoch": [1.0, 2.0], "loss": [1.0, 0.5], "val_loss": [1.1, 0.6]}
    draw_curves({"drawn": columns}).to_html(full_html=False, include_plotlyjs=False)
    packed_script(get_plotlyjs())
