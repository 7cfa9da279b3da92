"""The folder that is corrected: where its images lie, and what is written beside them.

    files = find_files("my_images")
    files.images                    # {stem: path}
    files.log("a")                  # the edit log of one image

Two layouts are known. A data set with raw/ (and gt/) is corrected in place. Where the images lie in
the folder itself, nothing is moved: the data set grows in FOLDER/corrected/, and an accepted image
is linked or copied to its raw/. In both cases `train.py --data-dir HOME` reads it at any time.
"""

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from nuclei.app.edit_log import SUFFIX, EditLog
from nuclei.datasets.pairs import TRUTH_SUFFIXES, find_truths
from nuclei.files import named
from nuclei.images.folder import image_files
from nuclei.images.reading import IMAGE_SUFFIXES, open_image
from nuclei.images.stems import stem_of

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
    """

    folder: Path
    home: Path
    source: Path
    images: dict[str, Path]

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
        """Let the data set hold an image, where the images lie flat: as a link, or else a copy."""
        path, raw = self.images[stem], self.home / "raw"
        place = raw / path.name
        if self.source == raw or place.exists():
            return
        raw.mkdir(parents=True, exist_ok=True)
        temporary = raw / f".{uuid.uuid4().hex[:8]}"
        try:
            os.link(path, temporary)
        except OSError:  # another disk, or a disk without links
            shutil.copyfile(path, temporary)
        os.replace(temporary, place)

    def add(self, name: str, temporary: Path) -> str:
        """Take a new image into the folder; an image is never replaced.

        Args:
            name: of the file, as the browser says.
            temporary: a file in `source` with its content; it is moved.

        Returns:
            Its stem.

        Raises:
            ValueError: the name or the content is none of an image, or an image has this name.
        """
        stem = safe_stem(name)
        if stem in self.images:
            raise ValueError(f"{name}: there is an image of this name already; rename the new one")
        try:
            open_image(temporary)
        except (ValueError, OSError) as error:
            text = str(error).replace(str(temporary), name)
            raise ValueError(text) from None
        place = self.source / name
        if os.path.lexists(place):
            raise ValueError(f"{name}: there is a file of this name already; rename the new one")
        os.rename(temporary, place)
        self.images[stem] = place
        return stem


def safe_stem(name: str) -> str:
    """The stem of a file that a browser names.

    Raises:
        ValueError: this is no plain file name of an image.
    """
    is_plain = name == Path(name).name and not set(name) & set(BAD_CHARACTERS)
    is_plain = is_plain and name.isprintable() and not name.startswith((".", " ", "-"))
    if not is_plain or not 1 <= len(name) <= MAX_NAME:
        raise ValueError("this name cannot be used for a file; rename the image")
    if not name.lower().endswith(IMAGE_SUFFIXES):
        raise ValueError(f"{name} is no image by its name; expected {', '.join(IMAGE_SUFFIXES)}")
    return stem_of(Path(name), IMAGE_SUFFIXES)


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
    files = image_files(source)
    if repeated := [stem for stem, paths in files.items() if len(paths) > 1]:
        raise ValueError(f"{source}: several images are called {named(repeated)}; keep one of each")
    return Files(folder, home, source, {stem: paths[0] for stem, paths in files.items()})
