"""What the app works on: the images of a folder, their states, and what is open of them.

    workspace = Workspace(files, models, events)
    workspace.state()                       # for the page
    workspace.corrected.get(key)            # the labels of an image, opened if they are not yet

Images are known to the page by a key, never by a path. All methods may be called by any thread.
"""

import contextlib
import threading

import numpy as np

from nuclei.app.arrivals import Arrivals, signature
from nuclei.app.corrected import CorrectedImage, Start
from nuclei.app.edit_log import Summary, encode_labels, summarise
from nuclei.app.edits import Refused
from nuclei.app.entry import ACCEPTED, FAILED, PREDICTED, PREDICTING, SLIDE, WAITING, Entry, key_of
from nuclei.app.events import Events
from nuclei.app.files import Files
from nuclei.app.model_in_use import ModelInUse
from nuclei.app.picture import Picture, open_picture
from nuclei.app.predictions import (
    Prediction,
    read_predicted_labels,
    read_prediction,
    write_prediction,
)
from nuclei.app.recent import Recent
from nuclei.app.slide_picture import SlidePicture, open_slide_picture
from nuclei.contents import is_changed
from nuclei.datasets.field_names import source_of
from nuclei.images.reading import declared_size
from nuclei.images.stems import text_of
from nuclei.inference.find import Options
from nuclei.instances.separate import median_diameter
from nuclei.truth.masks import read_truth

MAX_OPEN_PIXELS = 80_000_000  # of pictures, and of labels, that stay in memory
CHANGED_NOTE = "Changed since it was accepted: gt/ holds it as it was then. Accept it again."
LACKING_NOTE = "It was accepted, but gt/ no longer has its file. Accept it again."


class Unknown(Exception):
    """There is no such image."""


class Workspace:
    """The images of a folder.

    Args:
        files: of the folder.
        models: the model in use.
        events: tells the open pages what has changed.
    """

    def __init__(self, files: Files, models: ModelInUse, events: Events) -> None:
        self.files, self.models, self.events = files, models, events
        self.folder_key = key_of(str(files.folder.resolve()))  # others may have had this address
        self.lock = threading.RLock()
        self.revision = 0
        self.wanted: str | None = None  # the image that the user looks at: predicted first
        self.pictures = Recent(self.make_picture, lambda it: it.num_pixels, MAX_OPEN_PIXELS)
        num_pixels = lambda it: it.canvas.labels.size
        self.corrected = Recent(self.make_corrected, num_pixels, MAX_OPEN_PIXELS)
        self.truths = files.truths()
        self.arrivals = Arrivals(files)
        self.entries = {key_of(stem): self.make_entry(stem) for stem in files.known}

    def make_entry(self, stem: str) -> Entry:
        """Find out what is known of an image or a slide, without decoding it."""
        if stem in self.files.slides:
            return Entry(key_of(stem), stem, self.files.slides[stem], is_slide=True)
        path = self.files.images[stem]
        entry = Entry(key_of(stem), stem, path)
        if source := source_of(stem, self.files.known):
            entry.source = key_of(source[0]), source[1]
        entry.size = declared_size(path)
        prediction = read_prediction(self.files.cache, stem)
        if prediction and prediction.image and is_changed(path, prediction.image):
            prediction = None  # of another picture
        if prediction:
            entry.size = (prediction.height, prediction.width)
        try:
            lines = self.files.log(stem).read()
        except (OSError, ValueError) as error:
            entry.state, entry.note = FAILED, text_of(str(error))
            return entry
        image = lines[0].get("image") if lines else None
        if image and is_changed(path, image):
            entry.state = FAILED
            entry.note = entry.other_note
            return entry
        is_fresh = prediction is not None and prediction.made_by == self.models.made_by
        if lines or stem in self.truths or is_fresh:
            entry.prediction = prediction
        if lines:
            self.update(entry, summarise(lines))
        elif stem in self.truths:
            entry.state = ACCEPTED
        elif is_fresh:
            self.update(entry, Summary(prediction.num_nuclei))
        return entry

    def update(self, entry: Entry, summary: Summary) -> None:
        """Take over the numbers of an image, and the state that follows from them."""
        with self.lock:
            is_changed = summary.accepted_at not in (None, summary.revision)
            entry.summary = summary
            entry.state = ACCEPTED if summary.is_accepted else PREDICTED
            entry.note = CHANGED_NOTE if is_changed else ""
            if summary.is_accepted and entry.stem not in self.truths:
                entry.state, entry.note = PREDICTED, LACKING_NOTE

    def entry(self, key: str) -> Entry:
        """An image. Raises: Unknown."""
        with self.lock:
            if key not in self.entries:
                raise Unknown
            return self.entries[key]

    def entry_of(self, stem: str) -> Entry:
        """An image by its stem. Raises: Unknown."""
        return self.entry(key_of(stem))

    def add(self, *stems: str) -> list[Entry]:
        """Take up images and slides that `files` has since a moment ago."""
        entries = [self.make_entry(stem) for stem in stems]
        with self.lock:
            self.entries |= {entry.key: entry for entry in entries}
        if entries:
            self.tell_state()
        return entries

    def look(self) -> None:
        """Take up what other programs did in the folder: new files, and repaired ones."""
        new = self.arrivals.take_up()
        truths: dict = {}
        if new:
            with contextlib.suppress(OSError, ValueError):  # the next run says what is wrong there
                truths = self.files.truths()
        self.truths |= {stem: truths[stem] for stem in new if stem in truths}
        self.add(*new)
        with self.lock:
            failed = [it for it in self.entries.values() if it.state == FAILED and it.seen]
        repaired = [it for it in failed if signature(it.path) not in (None, it.seen)]
        for entry in repaired:
            entry.state, entry.note, entry.seen = WAITING, "", None
        if repaired:
            self.tell_state()

    def state(self) -> dict:
        """The images for the page, those that need the user first."""
        with self.lock:
            entries = sorted(self.entries.values(), key=Entry.need)
            return {
                "folder": text_of(str(self.files.folder)),
                "folder_key": self.folder_key,
                "model": {"name": self.models.name, "diameter_px": self.models.diameter_px},
                "threshold": self.models.threshold,
                "images": [entry.describe() for entry in entries],
                "revision": self.revision,
            }

    def tell_state(self) -> None:
        """Let the pages fetch the state anew."""
        with self.lock:
            self.revision += 1
        self.events.tell({"state": True})

    def require_same(self, entry: Entry) -> None:
        """See that the file of an image still holds the picture that is open.

        Raises:
            Refused: it was replaced. Where nobody has corrected it, it is predicted again.
        """
        corrected, picture = self.corrected.look(entry.key), self.pictures.look(entry.key)
        known = [it.image for it in (corrected, entry.prediction) if it and it.image]
        known += [picture.content] if picture and not entry.is_slide and picture.content else []
        if not any(is_changed(entry.path, content) for content in known):
            return
        if corrected is not None:
            corrected.retire()
        self.pictures.drop(entry.key)
        self.corrected.drop(entry.key)
        self.add(entry.stem)
        name = text_of(entry.path.name)
        raise Refused(f"{name} was replaced by another picture; nothing was changed. Choose it.")

    # What is open

    def make_picture(self, key: str) -> Picture | SlidePicture:
        """Open an image or a slide."""
        entry = self.entry(key)
        if entry.is_slide:
            picture = open_slide_picture(entry.path, self.models)
            entry.mpp, entry.step = picture.mpp, picture.step
        else:
            picture = open_picture(entry.path, entry.prediction)
        entry.size = picture.shape[:2]
        return picture

    def make_corrected(self, key: str) -> CorrectedImage:
        """Open the labels of an image: from its log, else its truth, else its prediction."""
        entry = self.entry(key)
        log = self.files.log(entry.stem)
        start = None if log.read() else self.make_start(entry)
        corrected = CorrectedImage(log, start)
        if corrected.image and is_changed(entry.path, corrected.image):
            raise ValueError(entry.other_note)
        if corrected.canvas.labels.shape != self.pictures.get(key).image.shape[:2]:
            raise ValueError(
                f"{corrected.origin} and {entry.path.name} differ in size; move the older one away"
            )
        self.update(entry, corrected.summary)
        return corrected

    def make_start(self, entry: Entry) -> Start:
        """What the edits of an image begin from. Raises: Refused, where there is nothing yet."""
        if entry.stem in self.truths:
            path = self.truths[entry.stem]
            shape = self.pictures.get(entry.key).image.shape[:2]
            labels = read_truth(path, shape, stem=entry.stem).labels
            image = self.pictures.get(entry.key).content
            return Start(labels, encode_labels(labels), path.name, accepted=True, image=image)
        if entry.is_slide:
            raise Refused("A slide is not corrected itself: cut fields from it.")
        if entry.state in (WAITING, PREDICTING):
            raise Refused("This image is still being predicted.")
        labels, content = read_predicted_labels(self.files.cache, entry.stem)
        return Start(labels, content, entry.prediction.made_by, image=entry.prediction.image)

    def scale(self, entry: Entry) -> float | None:
        """How many times larger the network sees an image; None where it must be estimated."""
        if entry.prediction is not None and entry.prediction.made_by == self.models.made_by:
            return entry.prediction.scale
        diameter_px = median_diameter(self.corrected.get(entry.key).canvas.labels)
        options = Options(diameter_px=diameter_px)
        return options.scale_for(self.models.get()) if diameter_px else None

    def scale_of_source(self, entry: Entry) -> float | None:
        """The scale at which the network saw the image that a field was cut from, if it did."""
        source = entry.source and self.entries.get(entry.source[0])
        prediction = source and source.prediction
        is_known = prediction and prediction.made_by == self.models.made_by
        return prediction.scale if is_known else None

    # What the predicting thread asks for

    def next_to_predict(self) -> Entry | None:
        """The next image to predict: the one that the user looks at, else in their order."""
        with self.lock:
            waiting = [entry for entry in self.entries.values() if entry.state == WAITING]
            if not waiting:
                return None
            entry = next((it for it in waiting if it.key == self.wanted), waiting[0])
            entry.state = PREDICTING
        self.tell_state()
        return entry

    def put_slide(self, entry: Entry) -> None:
        """Note that the overview of a slide is there."""
        with self.lock:
            entry.state = SLIDE
        self.tell_state()
        self.events.tell({"image": entry.key, "revision": 0, "anew": True})

    def put_prediction(self, entry: Entry, labels: np.ndarray, prediction: Prediction) -> None:
        """Keep what the network found in an image."""
        write_prediction(self.files.cache, entry.stem, labels, prediction)
        with self.lock:
            self.corrected.drop(entry.key)
            entry.prediction = prediction
            entry.size = (prediction.height, prediction.width)
            self.update(entry, Summary(prediction.num_nuclei))
        self.tell_state()
        self.events.tell({"image": entry.key, "revision": 0, "anew": True})

    def fail(self, entry: Entry, error: Exception) -> None:
        """Note that an image cannot be read."""
        with self.lock:
            entry.state, entry.seen = FAILED, signature(entry.path)
            entry.note = text_of(str(error).replace(str(entry.path), entry.path.name))
        self.tell_state()

    def predict_anew(self) -> None:
        """Let all images be predicted again that the user has not worked on: the model changed."""
        with self.lock:
            entries = [entry for entry in self.entries.values() if entry.state == PREDICTED]
        for entry in entries:
            corrected = self.corrected.look(entry.key)
            # Not under our lock: this waits for an edit, which takes our lock at its end.
            if corrected is not None and not corrected.retire():
                continue
            with self.lock:
                if entry.state == PREDICTED and not self.files.log(entry.stem).path.is_file():
                    self.corrected.drop(entry.key)
                    entry.state = WAITING
        self.tell_state()
