"""The page as one HTML file: page.html filled with the contents.

page.html holds the looks and the behaviour. It has places such as %%SCORES%% that `build_page`
fills. Pictures, labels, measurements and plotly.js stand in blocks of text, which the page's script
unpacks when it needs them.
"""

import functools
import json
import math
from pathlib import Path

from nuclei.files import plural
from nuclei.report.inputs import CERTAINTY, certainty_column
from nuclei.report.measures import FIRST_MEASURES, measurements, pack_measurements, shortened
from nuclei.report.model_card import model_section
from nuclei.report.packing import pack_images, packed
from nuclei.report.predictions import OUT_OF_DISTRIBUTION
from nuclei.report.sections import headline, made_section, scores_section, text
from nuclei.results.curves import KEY, draw_curves, height_px
from nuclei.results.history import describe_history, read_history
from nuclei.results.pictures import ID_COLOURS, OUTLINE_COLOUR
from nuclei.scores import NO_GROUP

TEMPLATE = Path(__file__).with_name("page.html")
GROUPS_SCRIPT = Path(__file__).with_name("groups.js")
GENERATOR = '<meta name="generator" content="report.py">'  # tells our pages from other files
PAGE_MB = 38  # size of a page at most, in 10**6 bytes: mail and browsers still take it
RESERVE_BYTES = 100_000  # of the page for its sections of text
ROW_BYTES = 500  # of the page for each image besides its pictures: table, tags
SHOWN_SCORES = {  # of each image, from evaluation.json
    "mean_ap": "mean AP",
    "ap_50": "AP at 0.5",
    "dice": "Dice",
    "count_error": "count error",
}


def build_page(inputs):
    """Read and pack everything that a page shows.

    Args:
        inputs: PageInputs.

    Returns:
        The HTML, a str.

    Raises:
        FileNotFoundError, ValueError: as the readers of images, labels and history.
    """
    from plotly.offline import get_plotlyjs  # late: --help does not need it

    curves, training = training_section(inputs)
    template, plotly = TEMPLATE.read_text(encoding="utf-8"), packed_script(get_plotlyjs())
    measures, left_out = pack_measurements(measurements(inputs.predictions))
    num_rows = len(inputs.predictions.rows)
    size = len(template) + len(plotly) + sum(map(len, measures.values()))
    size += RESERVE_BYTES + ROW_BYTES * num_rows
    images = pack_images(inputs.predictions, inputs.pictures, PAGE_MB * 10**6 - size)
    data = page_data(inputs, images, list(measures)) | {"training": curves}

    # What the page opens with stands first, so that it is shown before the rest is read.
    pictures = [
        block(f"picture-{number}", image.picture) + block(f"labels-{number}", image.labels)
        for number, image in enumerate(images)
    ]
    columns = {name: block(f"measure-{name}", column) for name, column in measures.items()}
    first = [block("data", packed(json.dumps(data).encode("utf-8"))), *pictures[:1]]
    first += [columns.pop(name) for name in data["first_measures"]]
    parts = {
        "GENERATOR": GENERATOR,
        "TITLE": text(f"Nuclei in {plural(inputs.predictions.num_images, 'image')}"),
        "SUBTITLE": text(
            f"{inputs.predictions.folder.resolve().name}, found by {inputs.model_path.name}"
        ),
        "HEADLINE": headline(inputs.predictions, inputs.evaluation),
        "GROUPS_SCRIPT": GROUPS_SCRIPT.read_text(encoding="utf-8"),
        "SCORES": scores_section(inputs.evaluation, inputs.predictions.folder),
        "TRAINING": training,
        "MODEL": model_section(inputs),
        "MADE": made_section(inputs, left_out),
        "FIRST": "".join([*first, block("plotly", plotly)]),
        "LATER": "".join([*pictures[1:], *columns.values()]),
    }
    return fill_template(template, parts)


@functools.lru_cache(maxsize=1)
def packed_script(script):
    """A script as `packed` text. It takes a third of a second, and each page has the same one."""
    return packed(script.encode("utf-8"))


def block(name, content):
    """Content that the browser keeps as text until the page asks for it; base64 holds no `<`."""
    return f'<script type="text/plain" id="{name}">{content}</script>\n'


def fill_template(template, parts):
    """Put each part in the place of its %%NAME%%; places inside a part are left alone."""
    pieces = template.split("%%")
    return "".join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def training_section(inputs):
    """The training curves as a Plotly figure for JSON (None without history), and HTML."""
    if not inputs.history_path:
        return None, "<p>There is no history.csv beside the model; name it with --history.</p>"
    columns = read_history(inputs.history_path)
    figure = draw_curves({inputs.model_path.stem: columns})
    section = (
        f"<p>{text(describe_history(str(inputs.history_path), columns))}</p>"
        f"<p class='quiet'>{text(KEY)}</p>"
        f'<div id="training-plot" class="plot" style="height:{height_px(figure)}px" role="img" '
        'aria-label="Training curves by epoch"></div>'
    )
    return json.loads(figure.to_json()), section


def page_data(inputs, images, measures):
    """What the script of the page reads, without the pictures themselves.

    Args:
        inputs: PageInputs.
        images: list of PackedImage, one for each row.
        measures: names of the measurements in the page.

    Returns:
        dict for JSON.
    """
    scores = inputs.evaluation.by_stem
    certainty = certainty_column(inputs.predictions.nuclei)
    return {
        "images": [
            image_data(row, image, scores.get(row["image"]))
            | ({"group": inputs.group_of(row)} if inputs.groups else {})
            for row, image in zip(inputs.predictions.rows, images, strict=True)
        ],
        "measures": measures,
        "first_measures": [name for name in FIRST_MEASURES if name in measures],
        "certainty_name": CERTAINTY.get(certainty, ""),
        "score_names": SHOWN_SCORES if scores else {},
        "order": inputs.order,
        "groups": sorted(set(map(inputs.group_of, inputs.predictions.rows)) - {"", NO_GROUP}),
        "outline": css(OUTLINE_COLOUR),
        "colours": [css(colour) for colour in ID_COLOURS],
    }


def css(colour):
    """An RGB colour in the words of a browser."""
    return f"rgb({colour[0]},{colour[1]},{colour[2]})"


def image_data(row, image, scores):
    """What the script of the page reads about one image.

    Args:
        row: of summary.csv, with its `certainty`.
        image: PackedImage.
        scores: row of evaluate.py, or None.
    """
    data = {
        "stem": row["image"],
        "file": row["file"],
        "height": int(row["height_px"]),
        "width": int(row["width_px"]),
        "modality": row["modality"],
        "part": row["part"],
        "found": int(row["nuclei"]),
        "nuclei": int(row["shown"]),  # with measurements in the page
        "diameter": shortened(row["median_diameter_px"]),
        "share": shortened(row["nucleus_share"]),
        "certainty": shortened(row["certainty"]),
        "has_picture": bool(image.picture),
        "label_height": image.height,
        "label_width": image.width,
        "thumbnail": image.thumbnail,
    }
    for name in ("scale", "mpp", "positive_share"):
        if math.isfinite(row.get(name, math.nan)):
            data[name] = shortened(row[name])
    if math.isfinite(row.get(OUT_OF_DISTRIBUTION, math.nan)):
        data[OUT_OF_DISTRIBUTION] = int(row[OUT_OF_DISTRIBUTION] == 1)
    if scores:
        data["scores"] = {name: scores.get(name) for name in SHOWN_SCORES}
    return data
