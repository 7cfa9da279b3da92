"""The thread that predicts the images of the folder one after another, in the background.

predictor = Predictor(workspace, say)
predictor.start()
predictor.wake()            # there is something new to do
predictor.stop()
"""

import threading
from collections.abc import Callable

from nuclei.app.entry import WAITING, Entry
from nuclei.app.predictions import describe
from nuclei.app.workspace import Workspace
from nuclei.files import first_line
from nuclei.written import Protected

IDLE_SECONDS = 1.0  # between two looks at the list


class Predictor(threading.Thread):
    """Predicts what is waiting.

    Args:
        workspace: of the images.
        say: is told what fails.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], object] = print) -> None:
        super().__init__(name="predicting", daemon=True)
        self.workspace, self.say = workspace, say
        self.changed, self.is_stopped = threading.Event(), False

    def wake(self) -> None:
        """Look at the list now."""
        self.changed.set()

    def stop(self) -> None:
        """End after the image that is being predicted."""
        self.is_stopped = True
        self.wake()

    def run(self) -> None:
        """Predict until it is stopped."""
        while not self.is_stopped:
            self.workspace.look()
            entry = self.workspace.next_to_predict()
            if entry is None:
                self.changed.wait(IDLE_SECONDS)
                self.changed.clear()
            else:
                self.predict(entry)

    def predict(self, entry: Entry) -> None:
        """Predict one image. One that fails, for whatever reason, does not stop the others."""
        try:
            self.predict_and_keep(entry)
        except Exception as error:  # libraries raise all kinds, and this thread must go on
            line = str(error) if isinstance(error, Protected) else first_line(error)
            self.say(line if line.startswith(str(entry.path)) else f"{entry.path}: {line}")
            self.workspace.fail(entry, error)

    def predict_and_keep(self, entry: Entry) -> None:
        """Predict one image and write what was found. Raises: errors of all kinds."""
        from nuclei.inference.find import Options, find_nuclei

        workspace = self.workspace
        picture = workspace.pictures.get(entry.key)
        if entry.is_slide:
            workspace.put_slide(entry)
            return
        made_by, model = workspace.models.made_by, workspace.models.get()
        options = Options(mpp=picture.mpp, scale=workspace.scale_of_source(entry))
        found = find_nuclei(picture.image, model, options)
        prediction = describe(found, model, made_by, picture.mpp, picture.content)
        if made_by != workspace.models.made_by:  # another model was chosen meanwhile
            entry.state = WAITING
            return
        workspace.put_prediction(entry, found.labels, prediction)
