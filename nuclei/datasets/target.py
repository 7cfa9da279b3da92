"""Where an import writes its pairs, and what it did.

target = Target.of(Path("data/dsb2018"), overwrite=False)
paths = target.paths_to_write("a", image, ".png", ".png")       # {"raw": path, "gt": path}
target.finish("a", paths, num_nuclei=12, result=Imported())
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nuclei.cli import DATA_DIR
from nuclei.datasets.pairs import TRUTH_SUFFIXES, find_truths
from nuclei.files import MAX_NAMED, named, plural
from nuclei.images.folder import image_files
from nuclei.images.reading import read_image

NO_NAMES = ("", "raw", "gt", "train", "test", "validation", "val", "images", "masks", "data")


def own_data_dir(source) -> str | None:
    """The folder of an import, named as its source; None where such a name tells nothing."""
    path = Path(source).resolve()
    name = path.name if path.is_dir() else path.stem
    return None if name.lower() in NO_NAMES else f"{DATA_DIR}/{name}"


@dataclass
class Imported:
    """What an import did.

    Attributes:
        images, nuclei: numbers of those that came in.
        images_already_there: images that stayed as they are.
        images_replaced: those among `images` that were there.
        pixels_claimed_twice: by masks of two nuclei.
        images_alone, truths_alone: names of images without a truth, and of truths without an image.
        truths_overruled: stems of images that had their truth under another name, which is there
            still, and counts no more.
        kinds: how many images had their truth from a folder of this name.
        problems: a message for each image that could not be brought in.
    """

    images: int = 0
    nuclei: int = 0
    images_already_there: int = 0
    images_replaced: int = 0
    pixels_claimed_twice: int = 0
    images_alone: list[str] = field(default_factory=list)
    truths_alone: list[str] = field(default_factory=list)
    truths_overruled: list[str] = field(default_factory=list)
    kinds: Counter = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def has_pairs(self) -> bool:
        """Whether pairs came in, or were there already."""
        return self.images + self.images_already_there > 0

    def __str__(self) -> str:
        nuclei = plural(self.nuclei, "nucleus", "nuclei")
        numbers = [
            f"{self.images:,} imported, {self.images_already_there:,} already there, {nuclei}"
        ]
        if self.images_replaced:
            numbers.append(f"{self.images_replaced:,} replaced")
        if self.pixels_claimed_twice:
            numbers.append(f"{self.pixels_claimed_twice:,} pixels claimed twice")
        return ", ".join(numbers)

    def remarks(self) -> list[str]:
        """What the user should know beside the numbers, a line each."""
        lines = []
        if len(self.kinds) > 1:
            kinds = (f"{kind} ({count:,})" for kind, count in self.kinds.most_common())
            lines.append(f"Their truth comes from several folders: {', '.join(kinds)}")
        for names, noun, other in (
            (self.images_alone, "image", "truth"),
            (self.truths_alone, "truth", "image"),
        ):
            if names:
                lines.append(
                    f"Left out: {plural(len(names), noun)} without {other}: {named(names)}"
                )
        if names := self.truths_overruled:
            lines.append(
                f"Truth under another name counts no more, for {plural(len(names), 'image')}: "
                f"{named(names)}"
            )
        return lines

    def faults(self) -> list[str]:
        """The images that could not be brought in, a line each."""
        if not self.problems:
            return []
        lines = [f"Not imported: {plural(len(self.problems), 'image')}"]
        lines += [f"    {problem}" for problem in self.problems[:MAX_NAMED]]
        if len(self.problems) > MAX_NAMED:
            lines.append(f"    and {len(self.problems) - MAX_NAMED:,} more")
        return lines


@dataclass
class Target:
    """The folder that pairs are written to, and the files that it holds already.

    Attributes:
        out_dir: holds raw/ and gt/, or will.
        overwrite: whether pairs that are there are replaced.
        present: {"raw" or "gt": {stem: paths}}.
        stems_with_truth: also of images whose truth has a longer name, or serves a whole set.
    """

    out_dir: Path
    overwrite: bool
    present: dict[str, dict[str, list[Path]]]
    stems_with_truth: set[str]

    @classmethod
    def of(cls, out_dir: Path, overwrite: bool, stems: Iterable[str] = ()) -> "Target":
        """The target of a folder, which may be new, for images of these stems.

        Raises:
            ValueError: its truths contradict one another, as for `find_truths`.
        """
        raw, truths = image_files(out_dir / "raw"), image_files(out_dir / "gt", TRUTH_SUFFIXES)
        found = find_truths(out_dir / "gt", {*raw, *stems}) if truths else {}
        return cls(out_dir, overwrite, {"raw": raw, "gt": truths}, {*truths, *found})

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
        for path in paths.values():
            if path.is_dir():
                raise ValueError(f"{path} stands in its place and is no image; move it away")
        if self.overwrite:
            return paths
        there = {"raw": self.present["raw"], "gt": self.stems_with_truth}
        missing = {part: path for part, path in paths.items() if stem not in there[part]}
        for path in missing.values():
            if os.path.lexists(path):
                raise ValueError(f"{path} stands in its place and is no image; move it away")
        for path in self.present["raw"].get(stem, ())[:1]:
            if not np.array_equal(read_image(path), image):
                raise ValueError(
                    f"{path} is another image of this name; move it away, or give --out another "
                    "folder (--overwrite replaces it)"
                )
        return missing

    def finish(self, stem: str, paths: dict[str, Path], num_nuclei: int, result: Imported) -> None:
        """Count a pair whose files are written, and remove its files with other suffixes.

        Args:
            stem: of the pair.
            paths: of `paths_to_write`.
            num_nuclei: in its truth.
            result: what counts it.
        """
        result.images += 1
        if "gt" in paths:
            result.nuclei += num_nuclei
            if stem in self.stems_with_truth and stem not in self.present["gt"]:
                result.truths_overruled.append(stem)
        result.images_replaced += self.overwrite and any(
            stem in files for files in self.present.values()
        )
        self.keep_only(stem, paths)

    def keep_only(self, stem: str, paths: dict[str, Path]) -> None:
        """Remove files of this stem with another suffix; two of them would be ambiguous."""
        for part, path in paths.items():
            for old in self.present[part].get(stem, ()):
                # Some disks do not tell a from A: then both names are the file just written.
                if old != path and not (old.exists() and path.exists() and old.samefile(path)):
                    old.unlink(missing_ok=True)
            self.present[part][stem] = [path]
