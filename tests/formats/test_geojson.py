"""GeoJSON has what QuPath reads: valid outlines, fields, measurements, UUIDs that stay."""

import gzip
import json
import tracemalloc
import uuid
import zipfile

import numpy as np
import pandas as pd
import pytest
import shapely
from formats_tools import nuclei_of, run
from stains_tools import immunostained

from nuclei.formats.geojson import geojson_features, measurement_names, write_features
from nuclei.formats.registry import Nuclei
from nuclei.images.labels import without_gaps
from nuclei.instances.measure import measure


@pytest.mark.parametrize("name", ["geojson", "geojson.gz", "geojson.zip"])
def test_geojson_has_what_qupath_reads(examples, predictions, tmp_path, name):
    assert run(predictions, "--formats", name, "--out", tmp_path, "--mpp", "0.25") == 0
    for stem, (_, labels) in examples.items():
        path = tmp_path / "geojson" / f"{stem}.{name}"
        if name.endswith("zip"):
            with zipfile.ZipFile(path) as archive:
                assert archive.namelist() == [f"{stem}.geojson"]
                text = archive.read(f"{stem}.geojson")
        else:
            text = gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()
        collection = json.loads(text)
        assert (
            collection["type"] == "FeatureCollection"
            and len(collection["features"]) == labels.max()
        )
        errors, seen = [], set()
        for index, feature in enumerate(collection["features"], 1):
            assert feature["type"] == "Feature"
            seen.add(str(uuid.UUID(feature["id"])))
            properties = feature["properties"]
            assert (
                properties["objectType"] == "detection" and properties["name"] == f"Nucleus {index}"
            )
            assert properties["classification"] == {"name": "Nucleus", "color": [255, 221, 0]}
            assert all(isinstance(value, float) for value in properties["measurements"].values())
            shape = shapely.from_geojson(
                json.dumps(feature["geometry"])
            )  # GEOS, the port of QuPath's own JTS
            assert shape.is_valid
            area = (labels == index).sum()
            errors.append(abs(shape.area - area) / area)
            measurements = properties["measurements"]
            assert measurements["Area µm^2"] == pytest.approx(area / 16, abs=1e-3)
            assert measurements["Mean probability"] == pytest.approx(0.9)
            assert 0 < measurements["Min diameter µm"] <= measurements["Max diameter µm"]
            assert not [name for name in measurements if "px" in name]
            rows, columns = np.nonzero(labels == index)
            assert shape.bounds == (
                columns.min(),
                rows.min(),
                columns.max() + 1,
                rows.max() + 1,
            )  # (x, y)
        assert len(seen) == labels.max()
        assert max(errors) == 0


def test_the_confidence_is_among_the_measurements_and_without_a_pixel_size_units_are_px(examples):
    nuclei = nuclei_of("cells", *examples["cells"])
    confidence = np.linspace(0.5, 1, len(nuclei.table)).round(4)
    nuclei = nuclei._replace(table=nuclei.table.assign(confidence=confidence))
    written = [feature["properties"]["measurements"] for feature in geojson_features(nuclei)]
    assert [one["Detection probability"] for one in written] == list(confidence)
    assert [one["Area px^2"] for one in written] == list(nuclei.table["area_px"])
    assert {"Length px", "Max diameter px", "Circularity", "Solidity"} <= set(written[0])
    assert not [name for name in written[0] if "µm" in name]


def test_editable_nuclei_are_annotations_without_measurements_that_an_edit_makes_wrong(examples):
    nuclei = nuclei_of("cells", *examples["cells"])
    nuclei = nuclei._replace(table=nuclei.table.assign(confidence=0.75))
    found = list(geojson_features(nuclei))
    editable = list(geojson_features(nuclei._replace(editable=True)))
    for before, after in zip(found, editable, strict=True):
        assert (before["id"], before["geometry"]) == (after["id"], after["geometry"])
        properties = after["properties"]
        assert properties["objectType"] == "annotation"
        assert properties["classification"] == before["properties"]["classification"]
        assert properties["measurements"]["Detection probability"] == 0.75
        assert set(properties["measurements"]) <= {"Detection probability", "Mean probability"}


def test_a_uuid_belongs_to_a_nucleus_not_to_its_number(examples):
    nuclei = nuclei_of("cells", *examples["cells"])
    before = {feature["id"] for feature in geojson_features(nuclei)}
    fewer = without_gaps(np.where(nuclei.labels == 1, 0, nuclei.labels))
    table = pd.DataFrame(measure(fewer))
    after = {
        feature["id"] for feature in geojson_features(nuclei._replace(labels=fewer, table=table))
    }
    assert after < before and len(before - after) == 1
    assert not before & {
        feature["id"] for feature in geojson_features(nuclei._replace(stem="other"))
    }


def test_immunostained_nuclei_are_positive_or_negative_and_others_have_one_class():
    image, labels, is_brown = immunostained()
    for is_immunostained, names in (
        (True, ["Positive" if brown else "Negative" for brown in is_brown]),
        (False, ["Nucleus"] * len(is_brown)),
    ):
        table = pd.DataFrame(measure(labels, image, stained=True, dab=is_immunostained))
        features = geojson_features(Nuclei("a", "a.png", labels, table))
        classes = [feature["properties"]["classification"] for feature in features]
        assert [one["name"] for one in classes] == names
        assert len({tuple(one["color"]) for one in classes}) == len(set(names))


@pytest.mark.parametrize("suffix", [".geojson", ".geojson.gz", ".geojson.zip"])
def test_features_are_streamed(tmp_path, suffix):
    """10,000 nuclei pass through: the peak of memory is below the size of 500 nuclei."""
    feature = next(
        geojson_features(Nuclei("x", "x", np.ones((6, 6), np.int32), pd.DataFrame({"id": [1]})))
    )
    tracemalloc.start()
    try:
        copies = [json.loads(json.dumps(feature)) for _ in range(500)]
        memory_of_500 = tracemalloc.get_traced_memory()[0]
        del copies
        tracemalloc.reset_peak()
        write_features(
            tmp_path / f"many{suffix}", (dict(feature, id=str(n)) for n in range(10_000))
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < memory_of_500
    if suffix == ".geojson":
        assert len(json.loads((tmp_path / "many.geojson").read_text())["features"]) == 10_000


def test_an_image_without_a_pixel_size_among_others_is_measured_in_pixels():
    table = pd.DataFrame({"area_px": [8.0], "area_um2": [np.nan], "diameter_px": [3.0]})
    assert {"area_px", "diameter_px"} <= set(measurement_names(table, False))
    assert "area_um2" in measurement_names(table.assign(area_um2=2.0), False)
