"""Learn from the accepted images, compare, and let the user choose: nothing is replaced unasked.

    learning = Learning(workspace, say)
    learning.begin(epochs=None)         # train.py in a process of its own
    learning.job()                      # for the page
    learning.comparison()               # old and new on the same images, when it is done
    learning.use("new")

The choice is kept in .nuclei/.choice.json, so that it holds in the next run, too.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from nuclei.app.comparing import compare
from nuclei.app.edits import Refused
from nuclei.app.entry import ACCEPTED
from nuclei.app.held_out import TRAIN, divide, write_split
from nuclei.app.training_process import TrainingProcess
from nuclei.app.workspace import Workspace
from nuclei.files import first_line, plural, replacing
from nuclei.schema import read_json_file
from nuclei.training.recipe import Recipe

CHOICE = ".choice.json"  # in the hidden folder, and no image has a stem that begins so
LOOK_SECONDS = 1.0  # between two looks at the training
RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"


@dataclass(frozen=True)
class Choice:
    """Which model is used, kept between runs.

    Attributes:
        used, old, new: paths of model files; old and new of the last comparison.
        comparison: what the page shows of it.
    """

    used: str
    old: str
    new: str
    comparison: dict


class Learning:
    """The training of a workspace, one at a time.

    Args:
        workspace: of the accepted images.
        say: is told what happens while models are loaded.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], object] = print) -> None:
        self.workspace, self.say = workspace, say
        self.lock = threading.Lock()
        self.process: TrainingProcess | None = None
        self.watcher: threading.Thread | None = None
        self.wants_stop = False
        self.described: dict | None = None
        self.choice = read_choice(self.choice_path)
        if self.choice and self.choice.comparison.get("held_out"):
            for image in self.choice.comparison["images"]:
                if entry := workspace.entries.get(image["id"]):
                    entry.held_out = True

    @property
    def choice_path(self) -> Path:
        """Where the choice is kept."""
        return self.workspace.files.cache / CHOICE

    def begin(self, epochs: int | None) -> dict:
        """Start to learn. Returns: the job. Raises: Refused."""
        workspace, epochs = self.workspace, epochs or Recipe.epochs
        with self.lock:
            if self.described and self.described["state"] == RUNNING:
                raise Refused("A model is being taught already: wait for it, or stop it.")
            entries = [it for it in workspace.entries.values() if it.state == ACCEPTED]
            if not entries:
                raise Refused("Accept an image first: the model learns from accepted images.")
            split_csv = workspace.files.home / "split.csv"
            parts = divide([it.stem for it in entries], split_csv, workspace.files.known)
            if TRAIN not in parts.values():
                raise Refused("split.csv leaves no accepted image to learn from.")
            for entry in entries:
                workspace.files.into_set(entry.stem)
                entry.held_out = parts[entry.stem] != TRAIN
            out = new_run(workspace.files.home / "runs")
            write_split(out / "split.csv", parts)
            old = workspace.models.path.resolve()
            judged = [it for it in entries if it.held_out] or entries
            pairs = {it.key: (it.path, workspace.truths[it.stem]) for it in judged}
            self.wants_stop = False
            self.process = TrainingProcess(
                workspace.files.home, old, out, out / "split.csv", epochs
            )
            self.describe(RUNNING, self.process.doing())
        work = (old, pairs, any(it.held_out for it in entries))
        self.watcher = threading.Thread(target=self.watch, args=work, name="learning", daemon=True)
        self.watcher.start()
        workspace.tell_state()
        return self.job()

    def watch(self, old: Path, pairs: dict, held_out: bool) -> None:
        """Follow the training to its end, then compare."""
        process = self.process
        while process.status() is None:
            self.describe(RUNNING, process.doing())
            time.sleep(LOOK_SECONDS)
        if self.wants_stop:
            self.describe(STOPPED, "Stopped. The model in use is as it was.")
        elif process.status() != 0:
            reason = process.last_words() or "it printed nothing"
            self.describe(FAILED, f"The training failed: {reason}")
        else:
            self.describe(RUNNING, f"Comparing both models on {plural(len(pairs), 'image')}.")
            try:
                record = compare(old, process.model, pairs, held_out, self.say)
                self.keep(Choice(str(old), str(old), str(process.model.resolve()), record))
            except Exception as error:  # each engine has exceptions of its own
                self.describe(FAILED, f"The comparison failed: {first_line(error)}")
            else:
                self.describe(DONE, "Choose which model to use.")
        self.workspace.tell_state()

    def describe(self, state: str, message: str) -> None:
        """Renew what the page sees of the job."""
        job = {"kind": "learn", "state": state, **self.process.progress(), "message": message}
        job["seconds"] = round(time.monotonic() - self.process.started, 1)
        if self.described is None or job | {"seconds": 0} != self.described | {"seconds": 0}:
            self.described = job
            self.workspace.events.tell({"job": job})

    def job(self) -> dict | None:
        """The training that runs or was the last one; None where there was none."""
        return self.described

    def preview(self) -> Path | None:
        """The picture of validation images that train.py renews; None before the first."""
        path = self.process.out / "preview.jpg" if self.process else None
        return path if path and path.is_file() else None

    def stop(self) -> dict | None:
        """End the training, if one runs. Returns: the job."""
        process = self.process
        if process is not None and process.status() is None:
            self.wants_stop = True
            process.stop()
            if self.watcher is not None:
                self.watcher.join(5 * LOOK_SECONDS)
        return self.job()

    def comparison(self) -> dict | None:
        """What the page shows of the last comparison; None before the first."""
        if self.choice is None:
            return None
        shown = dict(self.choice.comparison)
        for side in ("old", "new"):
            shown[side] = {key: value for key, value in shown[side].items() if key != "path"}
        return shown | {"in_use": "new" if self.choice.used == self.choice.new else "old"}

    def use(self, which: str) -> None:
        """Use the new model or the old one from now on. Raises: Refused, ValueError."""
        choice = self.choice
        if choice is None:
            raise Refused("No model was learned here yet.")
        path = choice.new if which == "new" else choice.old
        if Path(path) != self.workspace.models.path.resolve():
            self.workspace.models.use(Path(path))
            self.workspace.predict_anew()
        self.keep(Choice(path, choice.old, choice.new, choice.comparison))
        self.workspace.tell_state()

    def keep(self, choice: Choice) -> None:
        """Remember a choice."""
        with replacing(self.choice_path) as temporary:
            temporary.write_text(json.dumps(asdict(choice)), encoding="utf-8")
        self.choice = choice


def read_choice(path: Path) -> Choice | None:
    """The choice of an earlier run; None where there is none or its models are gone."""
    try:
        choice = read_json_file(path, Choice)
    except (OSError, ValueError):
        return None
    is_whole = all(Path(name).is_file() for name in (choice.used, choice.old, choice.new))
    return choice if is_whole else None


def model_used_before(cache: Path) -> Path | None:
    """The model that the user chose in an earlier run; None where there was no choice."""
    choice = read_choice(cache / CHOICE)
    return Path(choice.used) if choice else None


def new_run(folder: Path) -> Path:
    """A new folder for the results of a training, named by the time."""
    name = time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 1000):
        out = folder / (name if number == 1 else f"{name}_{number}")
        if not out.exists():
            out.mkdir(parents=True)
            return out
    raise OSError(f"{folder} cannot take another run")
