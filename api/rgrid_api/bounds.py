"""Bounds on what is sent: a body may be announced too large, or simply never end; a path may hold what nobody means."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rgrid.errors import Code, RGridError
from rgrid_api.errors import problem


class BodyBound:
    """Refuses bodies over a limit; uploads have their own, larger one."""

    def __init__(self, app: ASGIApp, *, limit: int, upload_limit: int, upload_prefix: str) -> None:
        """Keep the limits, in bytes."""
        self._app, self._limit = app, limit
        self._upload_limit, self._upload_prefix = upload_limit, upload_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:  # no name here has one, and Postgres takes none
            nul = RGridError(Code.SUBMISSION_INVALID, "there is a NUL character in the request's path")
            await problem(nul)(scope, receive, send)
            return
        upload = scope["method"] == "PUT" and scope["path"].startswith(self._upload_prefix)
        limit = self._upload_limit if upload else self._limit
        code = Code.INPUT_TOO_LARGE if upload else Code.BODY_TOO_LARGE
        refusal = RGridError(code, f"the body is larger than the {limit} bytes allowed")
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if announced.isdigit() and int(announced) > limit:
            await problem(refusal)(scope, receive, send)
            return
        came = 0

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > limit:
                raise refusal
            return message

        await self._app(scope, counted, send)
