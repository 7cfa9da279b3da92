"""Another program on the same images: StarDist, in an environment of its own."""

import json
import subprocess
from pathlib import Path

PROGRAM = Path(__file__).with_name("peer_stardist.py")


def measure_peer(card, files, python, model, repeats):
    """Time StarDist's `predict_instances`, reading included, after a first round.

    Args:
        card: a `Card`.
        files: {stem: path} of images.
        python: the interpreter that has StarDist.
        model: folder of a StarDist model; None for its published weights.
        repeats: of the measurement.

    Raises:
        ValueError: StarDist or the model is missing.
    """
    if model and not (Path(model) / "config.json").is_file():
        raise ValueError(
            f"--peer-model {model} is no folder of a StarDist model: it has no config.json"
        )
    folder = Path(model).resolve().as_posix() if model else ""
    # As text, so that the other interpreter does not find the rooms beside the program.
    command = [python, "-c", PROGRAM.read_text(encoding="utf-8"), str(repeats), folder]
    done = subprocess.run([*command, *map(str, files.values())], capture_output=True, text=True)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not results:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ValueError(
            f"{python} cannot run StarDist ({lines[-1][:200]}); python -m pip install stardist "
            "tensorflow, there or in another environment whose python you name with --peer-python"
        )
    result = json.loads(results[0].removeprefix("RESULT"))
    card.add(
        "peer",
        "StarDist",
        Path(result["weights"]).name,
        ("speed", result["pixels"] / result["seconds"] / 1e6, "MP/s"),
        ("time", result["seconds"], "s"),
        ("nuclei", result["nuclei"], ""),
    )
