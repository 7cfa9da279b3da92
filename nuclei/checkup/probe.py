"""Try the program on one image, in a process of its own.

A broken TensorFlow can end the process that imports it, or wait for ever. So `try_out` starts
another Python, which goes through STEPS and writes a line of JSON after each; what lacks is what
broke.

    python -m nuclei.checkup.probe MODEL IMAGE ENGINE
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from nuclei.files import first_line
from nuclei.version import PYPROJECT

STEPS = ("backend", "engine", "image")
MAX_SECONDS = 300  # of the whole process; a slow disk needs a minute for TensorFlow alone


def run_steps(model_path, image_path, engine):
    """Go through STEPS in this process.

    Args:
        model_path: a model file.
        image_path: an image.
        engine: as of `load_model`.

    Yields:
        A dict for each step: "step", and what it found. A step that fails has "error", and is the
        last one.
    """
    step = STEPS[0]
    try:
        # Late: one of these packages may be what is broken.
        from nuclei.images.reading import read_image
        from nuclei.inference.engines import candidates, keras_device, load_model
        from nuclei.inference.find import find_nuclei
        from nuclei.machine import set_up_backend

        set_up_backend()
        yield {"step": step, "device": keras_device()}
        step = STEPS[1]
        chosen = candidates("auto")[0]
        model = load_model(model_path, engine, say=lambda line: None)
        yield {"step": step, "auto": chosen, "device": model.device}
        step = STEPS[2]
        image = read_image(image_path)
        started = time.monotonic()
        num_nuclei = int(find_nuclei(image, model).labels.max())
        seconds = time.monotonic() - started
        yield {"step": step, "nuclei": num_nuclei, "seconds": round(seconds, 2)}
    except Exception as error:  # of any kind: the point is to find out what is broken
        yield {"step": step, "error": f"{type(error).__name__}: {first_line(error)}"}


def main(argv=None):
    """Print the steps as lines of JSON. Returns: the exit status."""
    for result in run_steps(*(sys.argv[1:] if argv is None else argv)):
        print(json.dumps(result), flush=True)
    return int("error" in result)


def try_out(model_path, image_path, engine, command=(sys.executable, "-m", "nuclei.checkup.probe")):
    """Go through STEPS in another process.

    Args:
        model_path, image_path, engine: as of `run_steps`.
        command: starts the process.

    Returns:
        {step: dict}, as of `run_steps`. Where the process ended by itself, the step at which it did
        so has "error".
    """
    paths = [str(Path(path).resolve()) for path in (model_path, image_path)]
    try:
        done = subprocess.run(
            [*command, *paths, engine],
            cwd=PYPROJECT.parent,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=MAX_SECONDS,
        )
        output, end = done.stdout, how_it_ended(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode(errors="replace")
        end = f"no answer within {MAX_SECONDS} seconds"
    results = {}
    for line in output.splitlines():
        if line.startswith('{"step"'):
            result = json.loads(line)
            results[result["step"]] = result
    missing = [step for step in STEPS if step not in results]
    if missing and not any("error" in result for result in results.values()):
        results[missing[0]] = {"step": missing[0], "error": end}
    return results


def how_it_ended(status, errors):
    """Words for a process that ended without its results: a signal, or the last line it wrote."""
    if status < 0:
        return f"Python was ended by the signal {signal.Signals(-status).name}"
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"Python ended with status {status}"


if __name__ == "__main__":
    sys.exit(main())
