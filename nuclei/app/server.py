"""The server of the app: on this machine only, until Ctrl-C.

serve(files, models, port=None, say=print, show=webbrowser.open)
"""

import os
import socket
import warnings
from collections.abc import Callable

from nuclei.app.events import Events
from nuclei.app.files import Files
from nuclei.app.guarding import Guard
from nuclei.app.learning import Learning
from nuclei.app.model_in_use import ModelInUse
from nuclei.app.predicting import Predictor
from nuclei.app.routes import Desk, make_app
from nuclei.app.workspace import Workspace

HOST = "127.0.0.1"
USUAL_PORT = 8765
SECONDS_OPEN = 75  # of a connection without requests; a busy page must not find it closed
SECONDS_TO_END = 3  # for answers under way when the server stops


def open_socket(port: int | None) -> socket.socket:
    """A socket on this machine's own interface.

    Args:
        port: its port; None takes USUAL_PORT, or a free one where that is in use. A page keeps what
            it could not send in the browser by host and port: the next run then gets it.

    Raises:
        ValueError: the port is in use.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # elsewhere it would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for candidate in (USUAL_PORT, 0) if port is None else (port,):
        try:
            listener.bind((HOST, candidate))
            listener.listen()  # a browser that is quicker than the server waits
            return listener
        except OSError as error:
            fault = error.strerror
    listener.close()
    raise ValueError(f"port {port} cannot be used ({fault}); leave out --port to get a free one")


def make_desk(files: Files, models: ModelInUse, say: Callable[[str], object]) -> Desk:
    """What the routes work with; its predictor is not started yet."""
    events = Events()
    workspace = Workspace(files, models, events)
    return Desk(workspace, Predictor(workspace, say), events, Learning(workspace, say))


def make_server(guard: Guard):
    """The server of a guarded application; `run(sockets=[...])` serves until it is told to end."""
    import uvicorn

    config = uvicorn.Config(
        guard,
        log_level="error",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_END,
        timeout_keep_alive=SECONDS_OPEN,
    )
    return uvicorn.Server(config)


def serve(
    files: Files,
    models: ModelInUse,
    port: int | None,
    say: Callable[[str], object],
    show: Callable[[str], object] | None,
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        files: the folder.
        models: the model in use.
        port: of the server; None takes USUAL_PORT or a free one.
        say: is told the address and what happens.
        show: opens an address in a browser; None leaves that to the user.
    """
    listener = open_socket(port)
    desk = make_desk(files, models, say)
    guard = Guard(make_app(desk), listener.getsockname()[1], say)
    server = make_server(guard)
    desk.predictor.start()
    say(f"Open {guard.address()}")
    if show is not None:
        show(guard.address())
    # A stop before the first step of the server leaves it unused, of which Python would complain.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    try:
        server.run(sockets=[listener])
    finally:
        desk.events.close()
        desk.predictor.stop()
        desk.learning.stop()
        desk.predictor.join(SECONDS_TO_END)
        listener.close()
