"""napari's manifest leads to the widget, which calls the Python API.

`npe2 validate nuclei/napari.json` is napari's own check. It is no part of the tests: npe2 brings a
plugin of pytest whose warnings would be errors here.
"""

import importlib
import inspect
import json
import tomllib

import numpy as np
from app_tools import bright_model, drawn_labels

from nuclei import napari_widget
from nuclei.model_file import PROJECT

MANIFEST = PROJECT / "nuclei" / "napari.json"


def test_the_command_of_the_widget_exists():
    contributions = json.loads(MANIFEST.read_text(encoding="utf-8"))["contributions"]
    [command], [widget] = contributions["commands"], contributions["widgets"]
    assert widget["command"] == command["id"] == "nuclei.find" and widget["autogenerate"]
    room, name = command["python_name"].split(":")
    assert callable(getattr(importlib.import_module(room), name))


def test_the_package_tells_napari_where_the_manifest_lies():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    entry = project["project"]["entry-points"]["napari.manifest"]
    assert entry == {"nuclei": "nuclei:napari.json"}
    assert json.loads(MANIFEST.read_text(encoding="utf-8"))["name"] == "nuclei"


def test_the_widget_finds_the_nuclei_of_the_layer(monkeypatch):
    asked = []
    monkeypatch.setattr(
        napari_widget, "model_of", lambda path: asked.append(path) or bright_model()
    )
    labels = drawn_labels()
    found = napari_widget.find(np.where(labels, 180, 20).astype(np.uint8), model="shipped")
    assert asked == ["shipped"] and found.dtype == np.int32
    assert ((found > 0) == (labels > 0)).mean() > 0.95
    higher = napari_widget.find(np.where(labels, 180, 20).astype(np.uint8), 0.5, 0.999)
    assert (higher > 0).sum() <= (found > 0).sum()


def test_every_argument_has_a_type_from_which_napari_makes_its_field():
    parameters = inspect.signature(napari_widget.find).parameters.values()
    assert all(it.annotation is not inspect.Parameter.empty for it in parameters)
    assert [it.name for it in parameters if it.default is inspect.Parameter.empty] == ["image"]
