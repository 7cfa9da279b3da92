"""One input of a campaign: which file is damaged and how, and which program reads it.

    case = make_case(number, seed, originals, templates, room)
    case.argv                                   # ["predict", "images", "--out", "out", ...]

All follows from the seed and the number, so one input can be made again alone.
"""

import os
import random
from pathlib import Path
from typing import NamedTuple

from experiments.campaign.damage import damaged
from experiments.campaign.originals import Original
from experiments.campaign.stage import MODEL, PLACES, copy_template

NAME_SHARE = 0.06  # of the inputs whose file also gets a hostile name
READER_SHARE = 0.75  # of the inputs that a reader gets alone; the others get a whole program
SWAP_SHARE = 0.05  # of the inputs whose content is that of another kind
NAMES = (  # hostile stems, as the disk has them
    *(
        b"-rf",
        b"--help",
        b" ",
        b"..a",
        b"a b\tc",
        b"=1+1",
        b"@a",
        b"%s%n",
        b"$(id)",
        b"a;b",
        b"*?[",
    ),
    *(b"a\nb", b"\x1b[31mred", b"<img src=x onerror=alert(1)>", b"'\"`", b"CON", b"a,b", b"{a}"),
    *(
        b"\xff\xfe",
        b"\xc3\x28",
        b"x" * 240,
        "ä".encode() * 100,
        "\u202egnp".encode(),
        "🔬".encode(),
    ),
    *("a\u0308".encode(), b"a.b.ome", b"a\\b", b"&amp;", b"<script>", b"0", b"nan", b"a#b?c"),
)
ROLES = {  # the programs and the readers of whole files
    "image": (
        ("predict", "check raw", "report pictures", "exports pictures"),
        ("open_image", "open_image", "declared_pixels"),
    ),
    "truth": (("check gt", "evaluate truth", "evaluate predicted", "train data"), ("read_truth",)),
    "archive": (("import",), ()),
    "set": (("import set",), ()),
    "slide": (("predict slide file",), ("look_at_slide",)),
}


class Case(NamedTuple):
    """One input.

    Attributes:
        kind: the file that was damaged, such as "grey.png" or "found/summary.csv".
        damage: words for what was done to it.
        reader: a key of READERS, or one of the room `readers`.
        argv: the script and its arguments, in the folder of the case.
        path: the damaged file.
        expected: a result that must be there whatever the damaged file is, or None.
    """

    kind: str
    damage: str
    reader: str
    argv: list[str]
    path: Path
    expected: str | None = None


READERS = {  # parts of the templates; where the file goes; the command; what must come of it
    "predict": ("images model", "images", ["predict", "images", *MODEL], "out/masks/good.png"),
    "check raw": ("data", "data/raw", ["import_data", "data"], None),
    "report pictures": ("data found model", "data/raw", ["report", "found", *MODEL], None),
    "exports pictures": (
        "data found",
        "data/raw",
        ["exports", "found", "--images", "data/raw", "--formats", "csv,coco"],
        None,
    ),
    "check gt": ("data", "data/gt", ["import_data", "data"], None),
    "train data": ("data", "data/gt", ["train", "--data-dir", "data"], None),
    "evaluate truth": ("data found", "data/gt", ["evaluate", "found", "data/gt"], None),
    "evaluate predicted": (
        "data found",
        "found/labels",
        ["evaluate", "found", "data/gt", "--allow-missing"],
        "out/evaluation.json",
    ),
    "import": ("", ".", ["import_data", "--from", "{path}"], None),
    "import set": ("", "set", ["import_data", "--from", "set"], None),
    "predict slide file": (
        "images model",
        "images",
        ["predict", "images", "--tile", "272", "--diameter", "16", *MODEL],
        "out/masks/good.png",
    ),
    "predict slide": (
        "slides slides_found model",
        None,
        ["predict", "slides", "--out", "slides_found", "--tile", "272", "--diameter", "16", *MODEL],
        "slides_found/overlays/slide.ome.jpg",
    ),
    "report": ("data found model", None, ["report", "found", *MODEL], None),
    "report groups": (
        "data found model groups.csv",
        None,
        ["report", "found", *MODEL, "--groups", "groups.csv"],
        None,
    ),
    "exports": ("data found", None, ["exports", "found", "--formats", "coco,csv,geojson.gz"], None),
    "predict again": (
        "data found model",
        None,
        ["predict", "data/raw", "--out", "found", "--formats", "masks,labels,geojson", *MODEL],
        None,
    ),
    "predict model": (
        "images model",
        None,
        ["predict", "images", "--engine", "keras", *MODEL],
        None,
    ),
    "train init": ("data model", None, ["train", "--data-dir", "data", "--init", MODEL[1]], None),
    "train": ("data", None, ["train", "--data-dir", "data"], None),
    "train resume": ("data trained", None, ["train", "--resume", "--out", "trained"], None),
    "graph": ("model", None, ["graph", "model/history.csv"], None),
    "evaluate": ("data found", None, ["evaluate", "found", "data/gt"], None),
    "evaluate groups": (
        "data found",
        None,
        ["evaluate", "found", "data/gt", "--groups", "found/summary.csv"],
        None,
    ),
    "evaluate groups file": (
        "data found groups.csv",
        None,
        ["evaluate", "found", "data/gt", "--groups", "groups.csv"],
        None,
    ),
    "evaluate split": (
        "data found",
        None,
        ["evaluate", "found", "data/gt", "--split", "data/split.csv"],
        None,
    ),
    "import corrected": ("data found", None, ["import_data", "data"], None),
}
INSIDE = ("predict slide", "predict again", "train resume", "exports")  # have their own --out


def all_kinds(originals: list[Original]) -> list[str]:
    """The kinds of files that are damaged, in the order of the table."""
    return [original.name for original in originals] + list(PLACES)


def make_case(number, seed, originals, templates: Path, room: Path) -> Case:
    """Make the folder of one input, and return what to do there.

    Args:
        number: of the input, from 0.
        seed: of the campaign.
        originals: of `make_originals`.
        templates: folder of `make_templates`.
        room: a new, empty folder.
    """
    generator = random.Random(f"{seed}/{number}")
    kinds = all_kinds(originals)
    index = number % len(kinds)
    if index >= len(originals):
        return case_in_place(kinds[index], generator, templates, room)
    return case_of_file(originals[index], generator, originals, templates, room)


def choose_reader(programs, readers, generator):
    """A key of READERS, or the name of a reader that gets the file alone."""
    is_alone = readers and generator.random() < READER_SHARE
    return generator.choice(readers if is_alone else programs)


def case_of_file(original, generator, originals, templates, room):
    """An input that is a file of the user beside whole ones."""
    reader = choose_reader(*ROLES[original.role], generator)
    parts, place, argv, expected = READERS.get(reader, ("", "files", [reader, "{path}"], None))
    copy_template(templates, room, *parts.split())
    content, damage = damaged(original.content, original.form, generator)
    if generator.random() < SWAP_SHARE:
        content, damage = generator.choice(originals).content, "content of another kind"
    suffix = "".join(Path(original.name).suffixes[-2:])
    stem = b"other" if reader not in ("predict", "predict slide file") else b"bad"
    if generator.random() < NAME_SHARE:
        stem, damage = generator.choice(NAMES), f"{damage}, hostile name"
    (room / place / "other.png").unlink(missing_ok=True)
    (room / place).mkdir(exist_ok=True)
    name = stem + suffix.encode()
    if original.role == "set":
        write_set(room / place, originals)
        name = original.name.encode()
    path = room / place / os.fsdecode(name)
    path.write_bytes(content)
    words = [str(path.relative_to(room)) if word == "{path}" else word for word in argv]
    return Case(original.name, damage, reader, with_out(words, reader), path, expected)


def write_set(folder, originals):
    """Write both arrays of a set; one of them is damaged afterwards."""
    for other in originals:
        if other.role == "set":
            (folder / other.name).write_bytes(other.content)


def case_in_place(kind, generator, templates, room):
    """An input that is a file of ours, or a table of the user, at its place in the templates."""
    form, programs, readers = PLACES[kind]
    reader = choose_reader(programs, readers, generator)
    if reader == "predict":
        reader = "predict again"
    folder = Path(kind).parts[0]
    parts, _, argv, expected = READERS.get(reader, ("", None, [reader, kind], None))
    copy_template(templates, room, *dict.fromkeys([*parts.split(), folder]))
    path = room / kind
    content, damage = damaged(path.read_bytes(), form, generator)
    if reader == "import corrected":
        (room / "data/gt/good.png").unlink()
        path = room / "data/gt/good.geojson"
    path.write_bytes(content)
    return Case(kind, damage, reader, with_out(argv, reader), path, expected)


def with_out(argv, reader):
    """The command with a folder for its results, where it has none of its own."""
    if reader in INSIDE or argv[0] == "report" or "--out" in argv or reader not in READERS:
        return list(argv)
    if argv[0] == "import_data" and "--from" not in argv:
        return list(argv)
    return [*argv, "--out", "out"]
