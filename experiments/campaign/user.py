"""A user of app.py, as a program of the campaign: corrects all images of a folder and accepts them.

    main(["data/raw", "out", "--model", MODEL])     # out/raw becomes a link to the images

After a crash it goes on from what the app says is done, as a user does. The network is the stand-in
of the campaign.
"""

import http.client
import json
import os
import signal
import threading
import time
from pathlib import Path

import app
from experiments.app_speed import Client
from experiments.campaign.stage import stand_in
from nuclei.app.entry import ACCEPTED, FAILED, PREDICTING, WAITING
from nuclei.cli import user_errors_in_one_line
from nuclei.inference import engines

EDITS = ("delete", "grow", "delete", "shrink")  # of the first nucleus of each image, in this order
LOOK_SECONDS = 0.02  # between two looks whether all images are predicted


def correct_all(client: Client) -> None:
    """Do the edits that are missing, and accept. Raises: ValueError, where the app refuses."""
    while True:
        images = json.loads(client.ask("state", "/api/state"))["images"]
        if not any(image["state"] in (WAITING, PREDICTING) for image in images):
            break
        time.sleep(LOOK_SECONDS)
    for image in sorted(images, key=lambda image: image["name"]):
        if image["state"] == FAILED:
            raise ValueError(f"{image['name']}: {image['note']}")
        base = f"/api/images/{image['id']}"
        for kind in EDITS[image["revision"] :]:
            answer = json.loads(client.ask("nuclei", f"{base}/nuclei"))
            first = min(nucleus["id"] for nucleus in answer["nuclei"])
            edit = {"kind": kind, "base": answer["revision"], "ids": [first]}
            client.ask(kind, f"{base}/edits", edit)
        if image["state"] != ACCEPTED:
            client.ask("accept", f"{base}/accept", {"accepted": True})


@user_errors_in_one_line
def main(argv=None):
    """Start the app, correct, and stop it by Ctrl-C. Returns: the exit status."""
    raw, home, *flags = argv
    link = Path(home) / "raw"
    if not link.is_symlink():
        link.symlink_to(Path(raw).resolve())
    engines.load_model = lambda *_, **__: stand_in()
    has_ended, faults = threading.Event(), []

    def work(address):
        try:
            correct_all(Client(address))
        except ValueError as error:
            faults.append(error)
        except (OSError, http.client.HTTPException):
            return  # the app is being stopped
        has_ended.set()
        os.kill(os.getpid(), signal.SIGINT)

    def tell(line):
        if line.startswith("Open "):
            threading.Thread(target=work, args=(line.split()[1],), daemon=True).start()

    try:
        app.run(app.parse_arguments([home, "--no-browser", *flags]), tell)
    except KeyboardInterrupt:
        if not has_ended.is_set():
            raise
    if faults:
        raise faults[0]
    return 0
