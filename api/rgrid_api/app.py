"""The gateway's application: `create_app` puts routes, parts and bounds together. It listens to nobody itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rgrid import __version__
from rgrid.settings import Settings
from rgrid_api import errors
from rgrid_api.bounds import BodyBound
from rgrid_api.deps import make_parts
from rgrid_api.routes import health, inputs, jobs, keys, logs, nodes, outputs

THREADS = 200
VERSION_HEADER = b"rgrid-version"


class Versioned:
    """Says the grid's version on every answer, so that a client of another notices."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the header."""

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (VERSION_HEADER, __version__.encode())]
            await send(message)

        await self._app(scope, receive, say)


def create_app(settings: Settings, database_url: str) -> FastAPI:
    """Return the application for one grid."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        grid = make_parts(settings, database_url)
        # An upload holds a thread for as long as its sender takes; the usual forty are few.
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        app.state.parts = grid
        grid.changes.start()
        try:
            yield
        finally:
            grid.changes.stop()
            grid.engine.dispose()

    app = FastAPI(title="RGrid", version=__version__, lifespan=lifespan, redoc_url=None)
    errors.install(app)
    for module in (health, inputs, jobs, logs, outputs, nodes, keys):
        app.include_router(module.router, prefix="/v1")
    app.add_middleware(
        BodyBound,
        limit=settings.max_body_bytes,
        upload_limit=settings.max_input_bytes,
        upload_prefix="/v1/inputs/",
    )
    app.add_middleware(Versioned)

    @app.get("/", include_in_schema=False)
    def root(_request: Request) -> Response:
        return Response("RGrid's gateway. Its API is described at /docs.\n", media_type="text/plain")

    return app
