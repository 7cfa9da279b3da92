"""docs/code.md is true: its files and names exist, each step is called where it says."""

import ast
import re
from pathlib import Path

import pytest
from test_house import FLOORS, LIBRARIES, MODULES, ROOMS, ROOT, tree, wing

PAGE = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
CHAINS = [block for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL) if ".py  " in block]


def module(path):
    """The name of a module in MODULES: "nuclei.files" of nuclei/files.py."""
    return path.removesuffix(".py").replace("/", ".")


def defined(name):
    """What a module defines at its top: functions, classes, constants."""
    names = set()
    for node in tree(name).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def used(name):
    """The names that a module uses; to import one is not yet to use it."""
    return {node.id for node in ast.walk(tree(name)) if isinstance(node, ast.Name)}


def section(title):
    """The text of one section of the page."""
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.split()[0])
def test_each_step_is_defined_in_its_file_and_called_by_the_step_above(chain):
    above = []  # (indentation, module) of the lines that lead to this one
    for line in chain.splitlines():
        path, names = line.split(maxsplit=1)
        indentation = len(line) - len(line.lstrip())
        above = [step for step in above if step[0] < indentation]
        names = set(names.split(", "))
        assert names <= defined(module(path)), line
        assert not above or names <= used(above[-1][1]), line
        above.append((indentation, module(path)))
    assert len(CHAINS) == 2


def test_the_files_and_names_of_the_tables_exist():
    for path in re.findall(r"`([\w/]+\.(?:py|html))`", section("In an afternoon")):
        assert (ROOT / path).is_file(), path
    for names, path in re.findall(r"^\| (`.+?`) \| `(.+?)` \|", section("Records"), re.MULTILINE):
        assert set(re.findall(r"\w+", names)) <= defined(module(path)), names
    everything = set().union(*map(defined, MODULES))
    names = set(re.findall(r"`([A-Za-z_]+)`", section("To change one thing")))
    assert names <= everything, names - everything


def test_the_page_shows_the_floors_and_every_wing():
    text = section("The rooms and their floors")
    drawing = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    floors = [set(re.sub(r"\(.*?\)", "", line).split()) for line in drawing.splitlines()]
    expected = [{name for name in floor if name} for floor in reversed(FLOORS)]
    expected = [floor for floor in expected if floor]
    wings = {wing(name) for name in ROOMS if name.count(".") == 2}
    assert [floor - {"unet"} for floor in floors] == expected
    assert "unet" in LIBRARIES and any("unet" in floor for floor in floors)
    rows = re.findall(r"^\| `(\w+)/` \|.*\| (.*) \|$", text, re.MULTILINE)
    assert {name for name, _ in rows} == wings
    for name, files in rows:
        for file in re.findall(r"`(.+?)`", files):
            assert Path(ROOT, "nuclei", name, file).is_file(), file
