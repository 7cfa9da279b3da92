"""The model that predicts, proposes and is taught; it is loaded when it is first needed.

models = ModelInUse(find_model(None), say)
models.get()                # the `Model`, safe for several threads
models.use(path)            # another one from now on
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nuclei.instances.separate import THRESHOLDS
from nuclei.model_file import TRAINED_DIAMETER_PX, Model, read_settings
from nuclei.results.jobs import name_maker


class ModelInUse:
    """One model for all threads.

    Args:
        path: the model file.
        say: is told what happens while it is loaded.

    Raises:
        FileNotFoundError, ValueError: it is no model file.
    """

    def __init__(self, path: Path, say: Callable[[str], object] = print) -> None:
        self.say = say
        self.lock = threading.Lock()
        self.use(path)

    def use(self, path: Path) -> None:
        """Use another model file from now on."""
        settings = read_settings(path)
        made_by = name_maker(path)
        with self.lock:
            self.path, self.settings, self.made_by = path, settings, made_by
            self.model: Model | None = None

    @property
    def diameter_px(self) -> float:
        """Median diameter of the nuclei of its training, in px."""
        return self.settings.get("trained_diameter_px", TRAINED_DIAMETER_PX)

    @property
    def threshold(self) -> float:
        """Its probability above which a pixel is nucleus."""
        thresholds = {**THRESHOLDS, **self.settings.get("thresholds", {})}
        return thresholds["nucleus_threshold"]

    @property
    def name(self) -> str:
        """Words for the user: the file with its folder."""
        return f"{self.path.parent.name}/{self.path.name}"

    def get(self) -> Model:
        """The model, loaded if it is not yet."""
        with self.lock:
            if self.model is None:
                from nuclei.inference.engines import load_model
                from nuclei.inference.threads import one_at_a_time

                model = load_model(self.path, say=self.say)
                self.model = replace(model, network=one_at_a_time(model.network))
            return self.model
