"""What a finished slide became: its table, its row of summary.csv, and its files.

    found = find_nuclei_on_slide(slide, job, run)
    for table, outlined in found.parts():          # one tile at a time
        ...
    found.write("predictions", ["overlays", "geojson.zip"])

The nuclei stay in the work folder and are taken from it one tile at a time, so that millions of
nuclei need little memory.
"""

import itertools
from pathlib import Path

import numpy as np

from nuclei.files import replacing
from nuclei.formats.geojson import features_of_outlines, write_features
from nuclei.formats.label_images import (
    fill_pyramid,
    new_omezarr,
    source_of_labels,
    write_label_levels,
)
from nuclei.formats.registry import FORMATS
from nuclei.formats.tables import parquet_table
from nuclei.images.writing import write_jpeg
from nuclei.instances.confidence import uncertainty_of
from nuclei.instances.measure import in_microns
from nuclei.instances.neighbours import measure_neighbours
from nuclei.polygons import fill
from nuclei.results.tables import positive_share
from nuclei.slides.overview import draw_nuclei

SLIDE_FORMATS = (
    "overlays",
    "csv",
    "geojson",
    "geojson.zip",
    "geojson.gz",
    "ometiff",
    "omezarr",
    "parquet",
)
SLIDE_FORMATS_DEFAULT = ("overlays", "csv", "geojson.zip")  # .zip has a tenth of the size


class FoundOnSlide:
    """The nuclei of a finished slide.

    Attributes:
        stem: names the results.
        path: of the slide.
        work: the `WorkFolder` with the nuclei.
        tiles: the `Tile`s that were searched.
        setup: the `Setup` of the slide.
        overview: (h, w, 3) uint8 or uint16, the slide as a thumbnail.
        mpp: µm per pixel, or None.
        diameters: (n,) float64, in px of the slide.
        positive: (n,) float64, the column of `measure`.
        neighbours: columns of `measure_neighbours`, over all tiles.
        area_px: of all nuclei together.
        uncertainty: as of `image_uncertainty`, over the tiles.
        num_cut: nuclei that may be cut; see `TileNuclei`.
    """

    def __init__(self, job, work, tiles, setup, overview, mpp):
        self.stem, self.path = job.stem, job.path
        self.work, self.tiles, self.setup = work, tiles, setup
        self.overview, self.mpp = overview, mpp
        centroids, diameters, positive = [np.zeros((0, 2))], [np.zeros(0)], [np.zeros(0)]
        undecided = probability = 0.0
        self.area_px = self.num_cut = 0
        for tile in tiles:
            nuclei = work.read_tile(tile)
            centroids.append(nuclei.centroids)
            diameters.append(nuclei.columns["diameter_px"])
            positive.append(nuclei.columns["positive"])
            undecided += nuclei.undecided
            probability += nuclei.probability
            self.area_px += int(nuclei.columns["area_px"].sum())
            self.num_cut += nuclei.num_cut
        searched_px = sum(tile.core.area_px for tile in tiles)
        self.uncertainty = uncertainty_of(undecided, probability, searched_px)
        self.diameters, self.positive = np.concatenate(diameters), np.concatenate(positive)
        ids = np.arange(1, len(self) + 1)
        self.neighbours = measure_neighbours(np.concatenate(centroids), ids)

    def __len__(self):
        return len(self.diameters)

    def parts(self):
        """The nuclei of one tile after another.

        Yields:
            (table, [(id, polygons)]): a DataFrame with a first column `image` and then those of
            `measure`, and outlines as of `nuclei.polygons.outlines`.
        """
        import pandas as pd

        start = 0
        for tile in self.tiles:
            nuclei = self.work.read_tile(tile)
            stop = start + len(nuclei)
            columns = {**nuclei.columns, "id": np.arange(start + 1, stop + 1)}
            columns.update({name: values[start:stop] for name, values in self.neighbours.items()})
            if self.mpp is not None:
                columns.update(in_microns(columns, self.mpp))
            table = pd.DataFrame({"image": self.stem, **columns})
            yield table, list(enumerate(nuclei.polygons, start=start + 1))
            start = stop

    def summary(self):
        """The row of summary.csv, as far as it comes from the slide: a dict."""
        height, width = self.setup.shape
        return {
            "height_px": height,
            "width_px": width,
            "modality": self.setup.kind,
            "nuclei": len(self),
            "median_diameter_px": round(float(np.median(self.diameters)), 2) if len(self) else "",
            "scale": round(self.setup.scale, 3),
            "scale_spread": "",  # the scale of a slide is estimated from samples of one size
            "uncertainty": round(self.uncertainty, 4),
            "nucleus_share": round(self.area_px / (height * width), 4),
            "positive_share": positive_share(self.positive),
            "intensity_low": self.setup.intensity[0],
            "intensity_high": self.setup.intensity[1],
            "mpp": "" if self.mpp is None else self.mpp,
        }

    def write(self, out, formats, editable=False, overlay_colour="one"):
        """Write OUT/FOLDER/STEM.SUFFIX in each format.

        Args:
            out: the folder of the results.
            formats: names among SLIDE_FORMATS; "csv" is passed over, as it is one table of all
                images.
            editable: write outlines as annotations, which QuPath's brush can edit.
            overlay_colour: as of `draw_nuclei`.
        """
        if "overlays" in formats:
            picture = draw_nuclei(self.overview, self.setup, self.parts(), overlay_colour)
            write_jpeg(Path(out) / "overlays" / f"{self.stem}.jpg", picture)
        for name in formats:
            if name.startswith("geojson"):
                path = FORMATS[name].path(out, self.stem)
                write_features(path, self.features(editable), f"{self.stem}.geojson")
        if "omezarr" in formats or "ometiff" in formats:
            self.write_labels(out, formats)
        if "parquet" in formats:
            tables = (table for table, _ in self.parts())
            write_parquet_parts(FORMATS["parquet"].path(out, self.stem), tables)

    def features(self, editable=False):
        """Yield the nuclei as GeoJSON Features; `editable` as of `features_of_outlines`."""
        for table, outlined in self.parts():
            yield from features_of_outlines(self.stem, outlined, table, editable)

    def write_labels(self, out, formats):
        """Write the label image: as OME-Zarr, from which the OME-TIFF is then made."""
        path = self.work.path / "labels.zarr"
        if "omezarr" in formats:
            path = FORMATS["omezarr"].path(out, self.stem)
        source = source_of_labels(path, self.path)
        with new_omezarr(path, self.stem, self.setup.shape, self.mpp, source) as levels:
            for _, outlined in self.parts():
                fill_labels(levels[0], outlined)
            fill_pyramid(levels)
            if "ometiff" in formats:
                tiff_path = FORMATS["ometiff"].path(out, self.stem)
                write_label_levels(tiff_path, self.stem, levels, self.mpp)


def fill_labels(level, outlined):
    """Write the pixels of nuclei into an array of ids that lies on disk.

    Args:
        level: (H, W) integer, anything that slices like an array.
        outlined: [(id, polygons)].
    """
    if not outlined:
        return
    outer_rings = [rings[0] for _, polygons in outlined for rings in polygons]
    corners = np.concatenate(outer_rings)
    (top, left), (bottom, right) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    ids = level[top:bottom, left:right]
    for index, polygons in outlined:
        moved = [[ring - (top, left) for ring in rings] for rings in polygons]
        ids.flat[fill(moved, ids.shape)] = index
    level[top:bottom, left:right] = ids


def write_parquet_parts(path, tables):
    """Write tables of equal columns as one Parquet file, a group of rows for each.

    Args:
        path: of the file; nothing is written where there are no tables.
        tables: an iterator of DataFrames.
    """
    import pyarrow.parquet

    parts = map(parquet_table, tables)
    first = next(parts, None)
    if first is None:
        return
    with (
        replacing(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, first.schema) as writer,
    ):
        for part in itertools.chain([first], parts):
            writer.write_table(part)
