"""Damage by a seed: to bytes, to the values of a JSON, to the cells of a table, to headers.

    content = damaged(content, "tiff", random.Random(7))

`damaged` knows the form of a file. A part of the damage follows the form, so that it reaches what
lies behind the first check of a reader; the rest hits any byte.
"""

import copy
import csv
import io
import json
import random
import re
import struct
import zipfile
import zlib

HOSTILE = (
    *(None, True, False, 0, 1, -1, 0.5, 1e-300, 1e300, float("nan"), float("inf"), 10**30, 2**63),
    *("", "x", "0", "nucleus", "\n", "\x00", "ä" * 300, "../../etc/passwd", "<script>"),
    *([], {}, [[]], [None], {"": None}, [0] * 1000, {"median": "x"}, [1.5, "a"]),
)
CELLS = (
    *("", " ", "nan", "inf", "-1", "1e999", "0x10", "1,5", "None", "=1+1", "@x", '"', "\x00", "\r"),
    *(
        "../../x",
        "a" * 70_000,
        "9" * 400,
        "<script>alert(1)</script>",
        "\u202e\ufeff",
        "-0",
        "\ud7ff",
    ),
)
EXTREMES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
FORM_SHARE = 0.5  # of the damage that follows the form of the file
MEMBER_NAMES = ("../x.png", "/x.png", "a\\..\\b.png", "x" * 300, "", ".", "con.roi", "a\n.png")


def nested(depth):
    """A list within a list, and so on."""
    value = []
    for _ in range(depth):
        value = [value]
    return value


def places(value, path=()):
    """The paths of all values in a JSON, of the whole first."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from places(value[index], (*path, index))


def mutated_value(value, generator):
    """A copy of a JSON in which one value is replaced, removed, doubled or renamed."""
    value = copy.deepcopy(value)
    path = generator.choice(list(places(value)))
    hostile = generator.choice([*HOSTILE, nested(150)])
    if not path:
        return hostile
    parent = value
    for step in path[:-1]:
        parent = parent[step]
    kind = generator.choice(("replace", "replace", "replace", "remove", "rename", "swap"))
    if kind == "remove":
        del parent[path[-1]]
    elif kind == "rename" and isinstance(parent, dict):
        parent[path[-1] + "x"] = parent.pop(path[-1])
    elif kind == "swap" and isinstance(parent, dict):
        other = generator.choice(list(parent))
        parent[other], parent[path[-1]] = parent[path[-1]], parent[other]
    else:
        parent[path[-1]] = hostile
    return value


def mutated_bytes(content, generator):
    """A copy of some bytes, cut short, or with a few changed, moved or doubled."""
    content = bytearray(content)
    for _ in range(generator.choice((1, 1, 4, 20))):
        start = generator.randrange(len(content) or 1)
        size = generator.choice((1, 2, 8, 64))
        match generator.choice(("flip", "set", "cut", "double", "zero")):
            case "flip" if content:
                content[start] ^= 1 << generator.randrange(8)
            case "set":
                content[start : start + size] = generator.randbytes(size)
            case "zero":
                content[start : start + size] = bytes(size)
            case "double":
                content[start:start] = content[start : start + size]
            case "cut":
                del content[start : start + size]
    if generator.random() < 0.1:
        del content[generator.randrange(len(content) or 1) :]
    return bytes(content) or b"x"


def mutated_texts(value, number, seed):
    """Yields texts of a damaged JSON: three of four by its values, the others by their bytes."""
    generator = random.Random(seed)
    for index in range(number):
        if index % 4 == 3:
            yield mutated_bytes(json.dumps(value).encode(), generator)
        elif index % 50 == 0:
            yield b"[" * 100_000
        else:
            yield json.dumps(mutated_value(value, generator)).encode()


def extreme_number(content, generator, end=None):
    """Write an extreme whole number of 1 to 8 bytes over a place of the first `end` bytes."""
    content = bytearray(content)
    size = generator.choice((1, 2, 4, 8))
    start = generator.randrange(max(1, min(end or len(content), len(content) - size)))
    order = generator.choice("<>")
    code = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    value = generator.choice(EXTREMES) & ((1 << 8 * size) - 1)
    content[start : start + size] = struct.pack(order + code, value)
    return bytes(content)


def damaged_json(content, generator):
    """Replace a value of a JSON."""
    return json.dumps(mutated_value(json.loads(content), generator)).encode()


def damaged_csv(content, generator):
    """Change a cell, or remove, double or cut a row or a column."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8", "replace"))))
    row = generator.randrange(len(rows))
    column = generator.randrange(len(rows[row]))
    match generator.choice(("cell", "cell", "cell", "head", "row", "column", "double", "short")):
        case "cell":
            rows[row][column] = generator.choice(CELLS)
        case "head":
            rows[0][column % len(rows[0])] = generator.choice((*CELLS, *rows[0]))
        case "row":
            del rows[row]
        case "column":
            rows = [cells[:column] + cells[column + 1 :] for cells in rows]
        case "double":
            rows.insert(row, list(rows[row]))
        case "short":
            del rows[row][column:]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def damaged_text(content, generator):
    """Replace a number or a word of a text such as XML."""
    words = list(NUMBER.finditer(content)) or list(re.finditer(rb"\w+", content))
    if not words:
        return mutated_bytes(content, generator)
    word = generator.choice(words)
    cell = generator.choice(CELLS).encode("utf-8", "surrogatepass")
    return content[: word.start()] + cell + content[word.end() :]


def damaged_png(content, generator):
    """Write an extreme value into the header of a PNG, with the right checksum."""
    place = generator.randrange(13)
    header = bytearray(content[16:29])
    if place < 8:
        value = generator.choice(EXTREMES) & 0xFFFFFFFF
        header[place // 4 * 4 : place // 4 * 4 + 4] = struct.pack(">I", value)
    else:
        header[place] = generator.randrange(256)
    checksum = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return content[:16] + bytes(header) + checksum + content[33:]


def damaged_tiff(content, generator):
    """Change tag, type, count or value of one entry of a classic TIFF's first directory."""
    order = "<" if content[:2] == b"II" else ">"
    if struct.unpack(order + "H", content[2:4])[0] != 42:
        return extreme_number(content, generator, 256)
    start = struct.unpack(order + "I", content[4:8])[0]
    number = struct.unpack(order + "H", content[start : start + 2])[0]
    entry = start + 2 + 12 * generator.randrange(number)
    content = bytearray(content)
    if generator.random() < 0.3:
        place, code = generator.choice(((0, "H"), (2, "H")))
        value = generator.choice((*EXTREMES[:7], *range(1, 19))) & 0xFFFF
    else:
        place, code = generator.choice(((4, "I"), (8, "I"), (8, "H")))
        value = generator.choice(EXTREMES) & (0xFFFF if code == "H" else 0xFFFFFFFF)
    struct.pack_into(order + code, content, entry + place, value)
    return bytes(content)


def damaged_zip(content, generator):
    """Damage, rename, double or remove a member of a zip, or the sizes that it declares."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    chosen = generator.randrange(len(members))
    name, inside = members[chosen]
    match generator.choice(("damage", "damage", "rename", "double", "remove", "huge", "sizes")):
        case "damage":
            members[chosen] = (name, mutated_bytes(inside, generator))
        case "rename":
            members[chosen] = (generator.choice(MEMBER_NAMES), inside)
        case "double":
            members.append((name + "x", inside))
        case "remove":
            del members[chosen]
        case "huge":
            members[chosen] = (name, bytes(4_000_000))
        case "sizes":
            return extreme_number(content, generator)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, inside in members:
            archive.writestr(zipfile.ZipInfo(name), inside)
    return buffer.getvalue()


def damaged_npy(content, generator):
    """Replace a number or a word in the header of a .npy file, without moving its values."""
    end = content.find(b"\n") + 1
    header = damaged_text(content[10:end], generator)
    return content[:8] + struct.pack("<H", min(len(header), 0xFFFF)) + header + content[end:]


def damaged_hdf5(content, generator):
    """Damage the JSON in an attribute of an HDF5 file."""
    import h5py

    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        name = generator.choice([name for name in file.attrs if name in ("state", SETTINGS)])
        text = damaged_json(file.attrs[name], generator)
        file.attrs[name] = text.decode() if len(text) < 60_000 else "{}"
    return buffer.getvalue()


SETTINGS = "histology_segmentation"  # as in nuclei.model_file, which damage does not need
BY_FORM = {
    "json": damaged_json,
    "csv": damaged_csv,
    "xml": damaged_text,
    "png": damaged_png,
    "tiff": damaged_tiff,
    "zip": damaged_zip,
    "npy": damaged_npy,
    "hdf5": damaged_hdf5,
}


def damaged(content, form, generator):
    """Damage a file.

    Args:
        content: bytes of a whole file.
        form: a key of BY_FORM; of any other form only the bytes are damaged.
        generator: a `random.Random`.

    Returns:
        (bytes, word for what was done).
    """
    if form in BY_FORM and generator.random() < FORM_SHARE:
        return BY_FORM[form](content, generator), f"{form} field"
    match generator.choices(("bytes", "number", "cut", "empty", "noise"), (5, 3, 2, 0.3, 0.3))[0]:
        case "bytes":
            return mutated_bytes(content, generator), "bytes"
        case "number":
            return extreme_number(content, generator, 512), "extreme number"
        case "cut":
            return content[: generator.randrange(len(content))], "cut short"
        case "empty":
            return b"", "empty"
    return generator.randbytes(len(content)), "noise"
