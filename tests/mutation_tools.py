"""Damage by a seed: to the values of a JSON, and to the bytes of a file."""

import copy
import json
import random

HOSTILE = (
    *(None, True, False, 0, 1, -1, 0.5, 1e-300, 1e300, float("nan"), float("inf"), 10**30, 2**63),
    *("", "x", "0", "nucleus", "\n", "\x00", "ä" * 300, "../../etc/passwd", "<script>"),
    *([], {}, [[]], [None], {"": None}, [0] * 1000, {"median": "x"}, [1.5, "a"]),
)


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
            case "flip":
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
