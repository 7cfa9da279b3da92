"""The folder that is corrected: where its images lie, and what is written beside them.

    files = find_files("my_images")
    files.images                    # {stem: path}; files.slides are those read in parts
    files.log("a")                  # the edit log of one image

Two layouts are known. A data set with raw/ (and gt/) is corrected in place. Where the images lie in
the folder itself, nothing is moved: the data set grows in FOLDER/corrected/, and an accepted image
is linked or copied to its raw/. In both cases `train.py --data-dir HOME` reads it at any time.
Slides are too large for this; fields of them are added as images.
"""

import filecmp
import os
import shutil
import threading
from collections import ChainMap
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nuclei.app.edit_log import SUFFIX, EditLog
from nuclei.datasets.pairs import TRUTH_SUFFIXES, find_truths
from nuclei.files import named, remove_any
from nuclei.images.folder import image_files
from nuclei.images.reading import IMAGE_SUFFIXES, open_image
from nuclei.images.stems import stem_of
from nuclei.leftovers import temporary_name
from nuclei.slides.formats import ONE_FILE_SUFFIXES, find_slides, is_slide, open_slide
from nuclei.slides.formats import SUFFIXES as SLIDE_SUFFIXES

WITH_FOLDER = (".mrxs", ".vms", ".vmu")  # these files lie beside a folder, or others, of theirs
WHOLE_SUFFIXES = tuple(suffix for suffix in ONE_FILE_SUFFIXES if suffix not in WITH_FOLDER)
CORRECTED = "corrected"  # folder of the data set where the images lie flat
CACHE = ".nuclei"  # folder of what can be made again: predictions
MAX_NAME = 150  # characters of the name of a file that is added
BAD_CHARACTERS = '/\\:*?"<>|'  # no system takes all of them


@dataclass(frozen=True)
class Files:
    """The folders of one set.

    Attributes:
        folder: that the user named.
        home: with raw/ and gt/.
        source: where the images lie.
        images: {stem: path}; grows where images are added.
        slides: the same of whole-slide images; no image has the stem of one.
        adding: held while a file is added, so that no two take one name.
    """

    folder: Path
    home: Path
    source: Path
    images: dict[str, Path]
    slides: dict[str, Path]
    adding: threading.Lock = field(default_factory=threading.Lock)

    @property
    def known(self) -> Mapping[str, Path]:
        """Images and slides, {stem: path}."""
        return ChainMap(self.images, self.slides)

    @property
    def truth_dir(self) -> Path:
        """The folder of what the user has accepted, and of the edit logs."""
        return self.home / "gt"

    @property
    def cache(self) -> Path:
        """The folder of predictions."""
        return self.home / CACHE

    def log(self, stem: str) -> EditLog:
        """The edit log of an image."""
        return EditLog(self.truth_dir / f"{stem}{SUFFIX}")

    def truths(self) -> dict[str, Path]:
        """The truth files, ours and the user's, by stem of the image. Raises: as `find_truths`."""
        if not image_files(self.truth_dir, TRUTH_SUFFIXES):
            return {}
        return find_truths(self.truth_dir, self.images)

    def into_set(self, stem: str) -> None:
        """Let the data set hold an image, where the images lie flat: as a link, or else a copy.

        Raises:
            ValueError: another image, or something else, lies in its place.
        """
        path, raw = self.images[stem], self.home / "raw"
        place = raw / path.name
        if self.source == raw:
            return
        if os.path.lexists(place):
            is_same = place.is_file() and os.path.samefile(path, place)
            if is_same or (place.is_file() and filecmp.cmp(path, place, shallow=False)):
                return
            raise ValueError(
                f"{CORRECTED}/raw/{place.name} is another image than {path.name}: move it away, "
                "with its ground truth in gt/."
            )
        raw.mkdir(parents=True, exist_ok=True)
        temporary = temporary_name(place)
        try:
            try:
                os.link(path.resolve(), temporary)  # a link to a link would lead elsewhere
            except OSError:  # another disk, or a disk without links
                shutil.copyfile(path, temporary)
            os.replace(temporary, place)
        finally:
            remove_any(temporary)

    def add(self, name: str, temporary: Path) -> str:
        """Take a new image or slide into the folder; none is ever replaced.

        Args:
            name: of the file, as the browser says.
            temporary: a file in `source` with its content; it is moved.

        Returns:
            Its stem.

        Raises:
            ValueError: the name or the content is none of an image, or an image has this name.
        """
        stem = safe_stem(name)
        if stem.casefold() in map(str.casefold, self.known):  # many disks do not tell a from A
            raise ValueError(f"{name}: there is an image of this name already; rename the new one")
        kind = self.slides if is_slide(temporary) else self.images
        try:
            open_slide(temporary) if kind is self.slides else open_image(temporary)
        except (ValueError, OSError) as error:
            text = str(error).replace(str(temporary), name)
            raise ValueError(text) from None
        if os.path.lexists(self.source / name):
            raise ValueError(f"{name}: there is a file of this name already; rename the new one")
        os.rename(temporary, self.source / name)
        kind[stem] = self.source / name
        return stem

    def is_taken(self, stem: str) -> bool:
        """Whether an image has this stem, or a file that would be taken for its image."""
        names = (f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES)
        return stem in self.known or any(os.path.lexists(self.source / name) for name in names)


def safe_stem(name: str) -> str:
    """The stem of a file that a browser names.

    Raises:
        ValueError: this is no plain file name of an image, or of a slide in one file.
    """
    suffixes = tuple(dict.fromkeys((*IMAGE_SUFFIXES, *WHOLE_SUFFIXES)))  # some are both
    is_plain = name == Path(name).name and not set(name) & set(BAD_CHARACTERS)
    is_plain = is_plain and name.isprintable() and not name.startswith((".", " ", "-"))
    if not is_plain or not 1 <= len(name) <= MAX_NAME:
        raise ValueError("this name cannot be used for a file; rename the image")
    if name.lower().endswith(SLIDE_SUFFIXES) and not name.lower().endswith(suffixes):
        raise ValueError(
            f"{name} is a part of a slide: copy all its files into the folder itself, and it is "
            "listed here"
        )
    if not name.lower().endswith(suffixes):
        raise ValueError(f"{name} is no image by its name; expected {', '.join(suffixes)}")
    return stem_of(Path(name), suffixes)


def find_files(folder) -> Files:
    """Look at a folder.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: two images have one stem.
    """
    folder = Path(folder)
    if not folder.is_dir():
        fault = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{folder} {fault}; expected a folder of images")
    is_set = (folder / "raw").is_dir()
    home = folder if is_set else folder / CORRECTED
    source = folder / "raw" if is_set else folder
    images, slides = list_folder(source)
    if repeated := [stem for stem, paths in images.items() if len(paths) > 1]:
        raise ValueError(f"{source}: several images are called {named(repeated)}; keep one of each")
    return Files(folder, home, source, {stem: paths[0] for stem, paths in images.items()}, slides)


def list_folder(
    source: Path, known: Container[Path] = ()
) -> tuple[dict[str, list[Path]], dict[str, Path]]:
    """The images and slides of a folder but for `known` ones: ({stem: paths}, {stem: path})."""
    slide_files = [(stem, path) for stem, path in find_slides(source) if path not in known]
    found = [(stem, path) for stem, path in slide_files if is_slide(path)]  # a CZI may be none
    images: dict[str, list[Path]] = {}
    for stem, paths in image_files(source).items():
        for path in (path for path in paths if path not in known):
            if is_slide(path):
                found.append((stem, path))
            else:
                images.setdefault(stem, []).append(path)
    slides: dict[str, Path] = {}
    for stem, path in dict.fromkeys(found):  # a.svs beside a.png is called a.svs
        slides[path.name if stem in slides or stem in images else stem] = path
    return images, slides
