"""How fluid is the page of app.py on a large image? Frames a second and the time of an edit.

    python -m experiments.app_page_speed                                # 8,000 px, 20,000 nuclei
    python -m experiments.app_page_speed --side 2000 --num-nuclei 1200  # smaller

It draws an image, starts app.py on it, and opens the page in a headless Chromium or Chrome. The
nuclei are drawn too, so that no network has to find them first. On a machine that is busy with
other work, the processor time of a frame says more than the frames a second.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from data.synthetic import draw
from nuclei.app.predictions import Prediction, write_prediction
from nuclei.cli import command_line, user_errors_in_one_line
from nuclei.machine import require
from nuclei.model_file import find_model
from nuclei.results.jobs import name_maker

PROJECT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
VIEW = {"width": 1366, "height": 860}  # px, of the window
PATCH_PX = 1000  # the image repeats a patch of this side
DIAMETER_PX = 22
SCALES = (None, 0.25, 0.5, 1, 4)  # CSS px for one px of the image; None shows all of it
NUM_FRAMES = 120
NUM_EDITS = 20
SECONDS_TO_REST = 3  # until tiles and outlines have arrived

PAGE = """async ([kind, scale, count]) => {
  const { session, desk } = await import("/page/start.js"), { viewer } = desk;
  const frame = () => new Promise(requestAnimationFrame);
  if (kind === "ready") return session.nuclei?.all.size ?? 0;
  if (kind === "place") {
    viewer.showWhole();
    if (scale) viewer.zoom(scale / viewer.scale);
    return viewer.scale;
  }
  const times = [];
  if (kind === "pan" || kind === "zoom") {
    let last = await frame();
    for (let i = 0; i < count; i += 1) {
      if (kind === "pan") viewer.move(14 * Math.cos(i / 15), 9 * Math.sin(i / 15));
      else viewer.zoom(i % 60 < 30 ? 1.06 : 1 / 1.06);
      const now = await frame();
      times.push(now - last);
      last = now;
    }
    return times;
  }
  const near = [viewer.x - 200, viewer.y - 200, viewer.x + 200, viewer.y + 200];
  const ids = [...session.nuclei.within(near)].map(({ id }) => id);
  for (let i = 0; i < count; i += 1) {
    const start = performance.now(), id = ids[i % ids.length];
    await session.edit(i % 2 ? { kind: "undo" } : { kind: "grow", ids: [id], by: 1 });
    await frame();
    await frame();
    times.push(performance.now() - start);
  }
  return times;
}"""


def parse_arguments(argv):
    """Read the command line."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--side", type=int, default=8000, metavar="PX", help="of the image (default 8000)")
    add("--num-nuclei", type=int, default=20_000, metavar="N", help="about (default 20000)")
    return parser.parse_args(argv)


def write_set(folder: Path, side_px: int, num_nuclei: int) -> int:
    """Write a large image and its nuclei as if they were predicted; how many there are."""
    patch_px = min(PATCH_PX, side_px)
    num_per_patch = round(num_nuclei * patch_px**2 / side_px**2)
    patch, labels = draw("tissue", patch_px, patch_px, num_per_patch, DIAMETER_PX, seed=5)
    repeats = -(-side_px // patch_px)
    image = np.tile(patch, (repeats, repeats, 1))[:side_px, :side_px]
    shift = np.arange(repeats * repeats, dtype=np.int32).reshape(repeats, repeats) * labels.max()
    tiled = np.tile(labels, (repeats, repeats))
    tiled = np.where(tiled > 0, tiled + np.kron(shift, np.ones_like(labels)), 0)
    tiled = tiled[:side_px, :side_px]
    present, tiled = np.unique(tiled, return_inverse=True)
    tiled, num_found = tiled.reshape(side_px, side_px).astype(np.int32), len(present) - 1
    (folder / "raw").mkdir(parents=True)
    Image.fromarray(image).save(folder / "raw" / "large.png", compress_level=1)
    (folder / ".nuclei").mkdir()
    known = Prediction(
        name_maker(find_model(None)),
        side_px,
        side_px,
        num_found,
        0.2,
        False,
        1.0,
        [0, 255],
        None,
        [],
    )
    write_prediction(folder / ".nuclei", "large", tiled, known)
    return num_found


def start_app(folder: Path) -> tuple[subprocess.Popen, str]:
    """Start app.py on a folder; the process and the address of the page."""
    command = [sys.executable, "-u", "app.py", str(folder), "--no-browser"]
    app = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    for line in app.stdout:
        if match := re.search(r"http://\S+token=\S+", line):
            return app, match[0]
    raise ValueError("app.py ended before it printed an address")


def summary(milliseconds: list[float]) -> str:
    """Mean, 95th percentile and maximum."""
    mean, slow, most = np.mean(milliseconds), np.quantile(milliseconds, 0.95), max(milliseconds)
    return f"mean {mean:5.1f} ms, 95 % within {slow:5.1f} ms, longest {most:5.1f} ms"


def processor_ms() -> float:
    """Processor time of the browser so far, all of its processes together."""
    import psutil

    seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "chrom" in process.name():
                times = process.cpu_times()
                seconds += times.user + times.system
    return 1000 * seconds


def measure(page, num_nuclei: int) -> None:
    """Print the frames and the edits of an open page."""
    start = time.perf_counter()
    while page.evaluate(PAGE, ["ready", 0, 0]) != num_nuclei:
        time.sleep(0.05)
    print(f"opened with {num_nuclei:,} nuclei after {time.perf_counter() - start:.1f} s")
    for scale in SCALES:
        at = page.evaluate(PAGE, ["place", scale, 0])
        time.sleep(SECONDS_TO_REST)
        for kind in ("pan", "zoom"):
            before = processor_ms()
            times = page.evaluate(PAGE, [kind, 0, NUM_FRAMES])
            work_ms = (processor_ms() - before) / NUM_FRAMES
            rate = f"{1000 / np.mean(times):4.0f} frames/s, {work_ms:4.1f} ms of processor each"
            print(f"{kind:4} from scale {at:5.2f}: {rate}; {summary(times)}")
    page.evaluate(PAGE, ["place", 1, 0])
    time.sleep(SECONDS_TO_REST)
    times = page.evaluate(PAGE, ["edit", 0, NUM_EDITS])
    print(f"edits, from the key to the picture: {summary(times)}")


def run(args):
    """Draw, start, measure, end."""
    require(("starlette", "uvicorn", "playwright", "psutil"), "app_page_speed")
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise ValueError("no Chrome or Chromium on the path; install one")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as engine:
        home = Path(folder) / "large"
        num_nuclei = write_set(home, args.side, args.num_nuclei)
        print(f"{args.side:,} x {args.side:,} px, {num_nuclei:,} nuclei; {os.cpu_count()} cores")
        app, address = start_app(home)
        try:
            browser = engine.chromium.launch(executable_path=browser_path)
            page = browser.new_page(viewport=VIEW)
            page.goto(address)
            measure(page, num_nuclei)
            browser.close()
        finally:
            app.terminate()
            app.wait(20)


@user_errors_in_one_line
def main(argv=None):
    """Run and return the exit status."""
    run(parse_arguments(argv))
    return 0


if __name__ == "__main__":
    sys.exit(main())
