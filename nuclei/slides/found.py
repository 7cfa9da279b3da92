"""nuclei.slides.found"""

import itertools
import zipfile
from pathlib import Path

import cv2
import numpy as np

from nuclei.files import replacing
from nuclei.formats.geojson import CLASS_COLOUR, features_of_outlines, write_features
from nuclei.formats.label_images import fill_pyramid, new_omezarr, write_label_levels
from nuclei.formats.registry import FORMATS
from nuclei.images.intensity import normalise
from nuclei.instances.confidence import EMPTY_SHARE
from nuclei.instances.measure import in_microns, measure_neighbours
from nuclei.polygons import fill, unpack
from nuclei.slides.setup import tile_path

SLIDE_FORMATS = ("overlays", "csv", "geojson", "geojson.zip", "geojson.gz", "ometiff", "omezarr", "parquet")
SLIDE_FORMATS_DEFAULT = ("overlays", "csv", "geojson.zip")  # which QuPath opens, at a tenth of the size of plain GeoJSON
DENSITY_PX = 6.0  # blur of the map of nuclei over the overview
OUTLINES_BELOW = 3.0  # px of the slide for one of the overview, up to which outlines are drawn and not a map


def write_picture(path, picture):
    """An RGB picture, uint8, as PNG or JPEG by its suffix, whole or not at all."""
    good, code = cv2.imencode(path.suffix, np.ascontiguousarray(picture[..., ::-1]))  # OpenCV wants BGR
    if not good:
        raise ValueError(f"{path}: a picture of shape {picture.shape} cannot be written")
    with replacing(path) as temporary:
        temporary.write_bytes(code.tobytes())


class FoundOnSlide:
    """The nuclei of a finished slide, taken from its units one at a time, so that millions need no memory."""

    def __init__(self, slide, stem, folder, units, setup, overview, mpp):
        self.slide, self.stem, self.folder, self.units, self.setup = slide, stem, folder, units, setup
        self.overview, self.mpp = overview, mpp

    def count(self, unit):
        """How many nuclei a unit has; None where it is not finished."""
        try:
            with np.load(tile_path(self.folder, unit)) as arrays:
                return len(arrays["centroids"])
        except (FileNotFoundError, zipfile.BadZipFile, EOFError, KeyError, ValueError):  # a loss of power leaves such files
            return None

    def gather(self):
        """What is needed of all nuclei at once: centroids, diameters and neighbours, some 60 bytes for each."""
        centroids, diameters, uncertainties, cut = [np.zeros((0, 2))], [np.zeros(0)], np.zeros(2), 0
        area = 0
        for unit in self.units:
            with np.load(tile_path(self.folder, unit)) as arrays:
                centroids.append(arrays["centroids"])
                diameters.append(arrays["t diameter_px"])
                area += int(arrays["t area_px"].sum())
                uncertainties, cut = uncertainties + arrays["uncertainty"], cut + int(arrays["cut"])
        self.diameters, self.area, self.uncertainties, self.cut = np.concatenate(diameters), area, uncertainties, cut
        centroids = np.concatenate(centroids)
        self.neighbours = measure_neighbours(centroids, np.arange(1, len(centroids) + 1))
        return self

    def parts(self):
        """For each unit (table, [(id, polygons)]), as `measure` and `outlines` have them."""
        import pandas as pd

        start = 0
        for unit in self.units:
            with np.load(tile_path(self.folder, unit)) as arrays:
                columns = {name[2:]: arrays[name] for name in arrays.files if name.startswith("t ")}
                nuclei = unpack(arrays["corners"], arrays["lengths"])
            stop = start + len(nuclei)
            columns["id"] = np.arange(start + 1, stop + 1)
            columns.update({name: values[start:stop] for name, values in self.neighbours.items()})
            if self.mpp is not None:
                columns.update(in_microns(columns, self.mpp))
            yield pd.DataFrame({"image": self.stem, **columns}), list(enumerate(nuclei, start=start + 1))
            start = stop

    def summary(self):
        """Its row of summary.csv, as far as it comes from the slide."""
        searched = sum(unit.area_px for unit in self.units)
        return {
            "height_px": self.setup.shape[0],
            "width_px": self.setup.shape[1],
            "modality": self.setup.kind,
            "nuclei": len(self.diameters),
            "median_diameter_px": round(float(np.median(self.diameters)), 2) if len(self.diameters) else "",
            "scale": round(self.setup.scale, 3),
            "uncertainty": round(float(self.uncertainties[0] / max(self.uncertainties[1], EMPTY_SHARE * searched, 1e-9)), 4),
            "nucleus_share": round(self.area / (self.setup.shape[0] * self.setup.shape[1]), 4),
            "intensity_low": self.setup.intensity[0],
            "intensity_high": self.setup.intensity[1],
            "mpp": "" if self.mpp is None else self.mpp,
        }

    def write(self, out, formats):
        """Write out/FOLDER/STEM.SUFFIX in these of FORMATS (but csv, which is one table of all images)."""
        out = Path(out)
        paths = {name: out / FORMATS[name].folder / (self.stem + FORMATS[name].suffix)
                 for name in formats if name in FORMATS}  # fmt: skip
        if "overlays" in formats:
            write_picture(out / "overlays" / f"{self.stem}.jpg", self.draw())
        for name in formats:
            if name.startswith("geojson"):
                features = (one for table, outlined in self.parts() for one in features_of_outlines(self.stem, outlined, table))
                write_features(paths[name], features, f"{self.stem}.geojson")
        if "omezarr" in formats or "ometiff" in formats:
            where = paths.get("omezarr", self.folder / "labels.zarr")
            with new_omezarr(where, self.stem, self.setup.shape, self.mpp) as levels:
                for _, outlined in self.parts():
                    fill_labels(levels[0], outlined)
                fill_pyramid(levels)
                if "ometiff" in formats:
                    write_label_levels(paths["ometiff"], self.stem, levels, self.mpp)
        if "parquet" in formats:
            write_parquet_parts(paths["parquet"], (table for table, _ in self.parts()))

    def draw(self):
        """The overview with its nuclei: outlines where they can be seen, else how many there are where. (h, w, 3) uint8."""
        picture = (normalise(self.overview, self.setup.intensity) * 255).round().astype(np.uint8)
        step = np.divide(self.setup.shape, picture.shape[:2])
        counts = np.zeros(picture.shape[:2], np.float32)
        for table, outlined in self.parts():
            if step.max() < OUTLINES_BELOW:
                rings = [ring for _, polygons in outlined for rings in polygons for ring in rings]
                lines = [np.round((ring / step - 0.5)[:, ::-1]).astype(np.int32) for ring in rings]  # OpenCV wants x first
                cv2.polylines(picture, lines, True, CLASS_COLOUR)
            else:
                at = np.stack([table["centroid_row_px"], table["centroid_column_px"]]) / step[:, None]
                np.add.at(counts, tuple(np.minimum(at, np.transpose([counts.shape]) - 1).astype(int)), 1)
        if counts.any():
            density = cv2.GaussianBlur(counts, (0, 0), DENSITY_PX)
            density = np.clip(density / np.percentile(density[density > 0], 99), 0, 1)
            colours = cv2.applyColorMap((density * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
            share = 0.7 * np.sqrt(density)[..., None]
            picture = (picture * (1 - share) + colours * share).astype(np.uint8)
        return picture


def fill_labels(level, outlined):
    """Write the pixels of nuclei into an array of ids that lies on disk."""
    if not outlined:
        return
    corners = np.concatenate([rings[0] for _, polygons in outlined for rings in polygons])
    (top, left), (bottom, right) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    ids = level[top:bottom, left:right]
    for index, polygons in outlined:
        ids.flat[fill([[ring - (top, left) for ring in rings] for rings in polygons], ids.shape)] = index
    level[top:bottom, left:right] = ids


def write_parquet_parts(path, tables):
    """Tables of equal columns as one Parquet file, a group of rows for each."""
    import pyarrow
    import pyarrow.parquet

    first = next(tables, None)
    if first is None:  # no tissue
        return
    schema = pyarrow.Schema.from_pandas(first, preserve_index=False)
    with replacing(path) as temporary, pyarrow.parquet.ParquetWriter(temporary, schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(pyarrow.Table.from_pandas(table, schema=schema, preserve_index=False))
