"""The addresses of the server: what each request does and how its errors are answered.

    app = make_app(desk)        # an ASGI application, to be put behind a `Guard`

Work on images runs in threads, so that the server answers others meanwhile.
"""

import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from nuclei.app import corrections
from nuclei.app.corrected import Stale
from nuclei.app.events import Events
from nuclei.app.exporting import available_formats, export
from nuclei.app.fields import add_field
from nuclei.app.files import safe_stem
from nuclei.app.guarding import TOO_LARGE, TooLarge
from nuclei.app.learning import Learning
from nuclei.app.predicting import Predictor
from nuclei.app.requests import Accept, CutField, Export, Learn, UseModel, box_of, read_edit
from nuclei.app.workspace import Unknown, Workspace
from nuclei.leftovers import temporary_name
from nuclei.schema import read_json

PAGE_DIR = Path(__file__).parent / "page"
PAGE_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
STALE = "These nuclei were changed in another window meanwhile: look at them and try again."
GONE = "This is no longer there."
OTHER_FOLDER = "Another folder is open at this address: edits of this page wait for their own."


@dataclass
class Desk:
    """What the routes work with."""

    workspace: Workspace
    predictor: Predictor
    events: Events
    learning: Learning


def make_app(desk: Desk):
    """The application."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.routing import Route

    handlers = Handlers(desk)
    routes = [
        Route("/", handlers.page),
        Route("/page/{name}", handlers.page),
        Route("/api/state", handlers.state),
        Route("/api/events", handlers.events),
        Route("/api/images", handlers.upload, methods=["POST"]),
        Route("/api/images/{key}/tiles/{level:int}/{column:int}/{row:int}.jpg", handlers.tile),
        Route("/api/images/{key}/nuclei", handlers.nuclei),
        Route("/api/images/{key}/edits", handlers.edit, methods=["POST"]),
        Route("/api/images/{key}/fields", handlers.cut_field, methods=["POST"]),
        Route("/api/images/{key}/accept", handlers.accept, methods=["POST"]),
        Route("/api/learn", handlers.learn, methods=["POST"]),
        Route("/api/learn/stop", handlers.stop_learning, methods=["POST"]),
        Route("/api/learn/preview.jpg", handlers.preview),
        Route("/api/comparison", handlers.comparison),
        Route("/api/model", handlers.use_model, methods=["POST"]),
        Route("/api/exports", handlers.export, methods=["POST"]),
    ]
    errors = {
        ClientDisconnect: went_away,
        TooLarge: too_large,
        Unknown: gone,
        ValueError: refused,
        OSError: failed,
    }
    errors |= {HTTPException: unknown_address, Exception: fault}
    return Starlette(routes=routes, exception_handlers=errors)


def answer(status: int, content):
    """A response of JSON."""
    from starlette.responses import JSONResponse

    return JSONResponse(content, status)


async def went_away(request, error):
    """A browser that was closed in the middle of its request: nobody reads the answer."""
    return answer(400, {})


async def too_large(request, error):
    """A body over its limit."""
    return answer(413, {"message": TOO_LARGE})


async def unknown_address(request, error):
    """An address or a method that is not known here."""
    return answer(error.status_code, {"message": f"{error.detail}."})


async def fault(request, error):
    """A fault of the program; the terminal shows its traceback."""
    return answer(500, {"message": "The program has a fault here; the terminal says which."})


async def gone(request, error):
    """An image that is not there."""
    return answer(404, {"message": GONE})


async def refused(request, error):
    """What makes no sense, in a sentence for the user."""
    return answer(422, {"message": str(error)})


async def failed(request, error):
    """The disk is full, or a file cannot be written: nothing was changed. Or an image is gone."""
    if isinstance(error, FileNotFoundError) and error.errno is None:  # a sentence of our own
        return answer(404, {"message": f"{error}: put it back, or start the program anew."})
    return answer(507, {"message": f"This could not be saved ({error.strerror or error})."})


class Handlers:
    """The functions of the addresses.

    Args:
        desk: what they work with.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk, self.workspace = desk, desk.workspace

    async def threaded(self, function, *args):
        """The result of a function that runs in a thread."""
        from starlette.concurrency import run_in_threadpool

        return await run_in_threadpool(function, *args)

    async def page(self, request):
        """A file of the page; only those that are in its folder have a name here."""
        from starlette.responses import Response

        name = request.path_params.get("name", "index.html")
        files = {path.name: path for path in PAGE_DIR.glob("*") if path.suffix in PAGE_TYPES}
        if name not in files:
            raise Unknown
        content = files[name].read_bytes()
        return Response(content, media_type=PAGE_TYPES[files[name].suffix])

    async def state(self, request):
        """All images."""
        return answer(200, await self.threaded(self.describe))

    def describe(self) -> dict:
        """All that the page shows beside the nuclei."""
        self.workspace.look()
        more = {"job": self.desk.learning.job(), "exports": available_formats()}
        return self.workspace.state() | more

    async def events(self, request):
        """The stream of events."""
        from starlette.responses import StreamingResponse

        return StreamingResponse(self.desk.events.listen(), media_type="text/event-stream")

    async def tile(self, request):
        """A tile of an image."""
        from starlette.responses import Response

        where = request.path_params
        code = await self.threaded(self.find_tile, where["key"], where)
        return Response(code, media_type="image/jpeg")

    def find_tile(self, key, where) -> bytes:
        """A tile. Raises: Unknown, where there is none."""
        self.workspace.entry(key)
        picture = self.workspace.pictures.get(key)
        code = picture.tile(where["level"], where["column"], where["row"])
        if code is None:
            raise Unknown
        return code

    async def nuclei(self, request):
        """The nuclei of an image."""
        key, since = request.path_params["key"], request.query_params.get("since")
        if since is not None and not (since.isdecimal() and len(since) < 10):
            raise ValueError("since is no revision")
        if since is not None:
            found = await self.threaded(corrections.changes, self.workspace, key, int(since))
            return answer(200, found)
        from starlette.responses import Response

        text = await self.threaded(corrections.nuclei, self.workspace, key)
        self.desk.predictor.wake()
        return Response(text, media_type="application/json")

    async def edit(self, request):
        """An edit. A page of another folder keeps it until that is open again."""
        folder_key = self.workspace.folder_key
        if request.headers.get("x-folder", folder_key) != folder_key:
            return answer(503, {"message": OTHER_FOLDER})
        key, wanted = request.path_params["key"], read_edit(await request.body())
        try:
            delta = await self.threaded(corrections.edit, self.workspace, key, wanted)
        except Stale:
            delta = await self.threaded(corrections.changes, self.workspace, key, wanted.base)
            return answer(409, {"delta": delta, "message": STALE})
        return answer(200, delta)

    async def accept(self, request):
        """An image is accepted, or no longer."""
        key, wanted = request.path_params["key"], read_json(await request.body(), Accept)
        image = await self.threaded(corrections.accept, self.workspace, key, wanted.accepted)
        return answer(200, image)

    async def cut_field(self, request):
        """A part of an image or a slide becomes an image."""
        key, wanted = request.path_params["key"], read_json(await request.body(), CutField)
        image = await self.threaded(add_field, self.workspace, key, box_of(wanted.box))
        self.desk.predictor.wake()
        return answer(200, image)

    async def upload(self, request):
        """A new image: the body is its file, the header X-Name its name."""
        name = urllib.parse.unquote(request.headers.get("x-name", ""), errors="strict")
        safe_stem(name)  # before gigabytes are sent
        temporary = temporary_name(self.workspace.files.source / name)
        try:
            with open(temporary, "xb") as file:
                async for part in request.stream():
                    await self.threaded(file.write, part)
            image = await self.threaded(corrections.add_image, self.workspace, name, temporary)
        finally:
            temporary.unlink(missing_ok=True)
        self.desk.predictor.wake()
        return answer(200, image)

    async def learn(self, request):
        """Begin to learn."""
        wanted = read_json(await request.body(), Learn)
        return answer(200, await self.threaded(self.desk.learning.begin, wanted.epochs))

    async def stop_learning(self, request):
        """End the training."""
        return answer(200, await self.threaded(self.desk.learning.stop))

    async def preview(self, request):
        """The picture that the training renews."""
        from starlette.responses import Response

        path = self.desk.learning.preview()
        if path is None:
            raise Unknown
        return Response(await self.threaded(path.read_bytes), media_type="image/jpeg")

    async def comparison(self, request):
        """The old and the new model on the same images."""
        return answer(200, self.desk.learning.comparison())

    async def use_model(self, request):
        """The user chooses a model."""
        wanted = read_json(await request.body(), UseModel)
        await self.threaded(self.desk.learning.use, wanted.use)
        self.desk.predictor.wake()
        return answer(200, await self.threaded(self.describe))

    async def export(self, request):
        """Files for other programs."""
        wanted = read_json(await request.body(), Export)
        return answer(200, await self.threaded(export, self.workspace, wanted.formats))
