"""Where an import writes its pairs, and what it did.

target = Target.of(Path("data/dsb2018"), overwrite=False)
target.paths_to_write("a", image, ".png", ".png")       # {"raw": path, "gt": path}
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nuclei.datasets.pairs import TRUTH_SUFFIXES
from nuclei.files import plural
from nuclei.images.folder import image_files
from nuclei.images.reading import read_image


@dataclass
class Target:
    """The folder that pairs are written to, and the files that it holds already."""

    out_dir: Path
    overwrite: bool
    present: dict[str, dict[str, list[Path]]]  # {"raw" or "gt": {stem: paths}}

    @classmethod
    def of(cls, out_dir: Path, overwrite: bool) -> "Target":
        """The target of a folder, which may be new."""
        raw, truths = image_files(out_dir / "raw"), image_files(out_dir / "gt", TRUTH_SUFFIXES)
        return cls(out_dir, overwrite, {"raw": raw, "gt": truths})

    def paths_to_write(
        self, stem: str, image: np.ndarray, image_suffix: str, truth_suffix: str = ".png"
    ) -> dict[str, Path]:
        """{"raw" or "gt": path} of the files that are missing, or of both to be overwritten.

        Empty where the image is there and has a truth: both stay as they are.

        Args:
            stem: of the pair.
            image: (H, W, 3), to tell whether an image that is there is the same.
            image_suffix, truth_suffix: of the files, lower case.

        Raises:
            ValueError: another image is there under this stem, or something that is no file; or
                the files would be hidden.
        """
        if stem.startswith("."):  # no program of ours reads such files, and some are temporary
            raise ValueError(f"{stem} begins with a dot, so its files would be hidden; rename it")
        paths = {
            "gt": self.out_dir / "gt" / f"{stem}{truth_suffix}",
            "raw": self.out_dir / "raw" / f"{stem}{image_suffix}",
        }
        if self.overwrite:
            return paths
        missing = {part: path for part, path in paths.items() if stem not in self.present[part]}
        for path in missing.values():
            if os.path.lexists(path):
                raise ValueError(f"{path} stands in its place and is no image; move it away")
        for there in self.present["raw"].get(stem, ())[:1]:
            if not np.array_equal(read_image(there), image):
                raise ValueError(
                    f"{there} is another image of this name; move it away, or give --out another "
                    "folder (--overwrite replaces it)"
                )
        return missing

    def keep_only(self, stem: str, paths: dict[str, Path]) -> None:
        """Remove files of this stem with another suffix; two of them would be ambiguous."""
        for part, path in paths.items():
            for old in self.present[part].get(stem, ()):
                # Some disks do not tell a from A: then both names are the file just written.
                if old != path and not (old.exists() and path.exists() and old.samefile(path)):
                    old.unlink(missing_ok=True)
            self.present[part][stem] = [path]


@dataclass
class Imported:
    """What an import did: numbers of images, nuclei and pixels, and a message for each failure."""

    images: int = 0
    images_already_there: int = 0
    images_incomplete: int = 0  # without image or without masks
    nuclei: int = 0
    pixels_claimed_twice: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        nuclei = plural(self.nuclei, "nucleus", "nuclei")
        return (
            f"{self.images:,} imported, {self.images_already_there:,} already there, "
            f"{self.images_incomplete:,} without image or masks, {nuclei}, "
            f"{self.pixels_claimed_twice:,} pixels claimed twice"
        )
