"""Errors as RFC 9457 problem details: the one place where the gateway turns an exception into an answer."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rgrid.errors import CATALOGUE, Code, RGridError
from rgrid.wire import Problem

log = logging.getLogger(__name__)

_BY_STATUS = {404: Code.NOT_FOUND, 413: Code.BODY_TOO_LARGE}
_RETRY = {Code.DATABASE_UNREACHABLE, Code.DATABASE_REFUSED, Code.SCHEMA_UNKNOWN}


def problem(error: RGridError, *, status: int | None = None) -> JSONResponse:
    """Render an error of the catalogue."""
    found = Problem(
        title=CATALOGUE[error.code].meaning,
        status=status or error.status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        **{k: v for k, v in error.context.items() if k not in Problem.model_fields},
    )
    headers = {}
    if error.code in _RETRY:
        headers["Retry-After"] = "2"
    if found.status == 401:  # noqa: PLR2004  # RFC 9110 wants to be told how
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        found.model_dump(mode="json"), found.status, headers=headers, media_type="application/problem+json"
    )


def install(app: FastAPI) -> None:
    """Teach an application to answer every failure as a problem."""

    @app.exception_handler(RGridError)
    async def _known(_request: Request, error: RGridError) -> JSONResponse:
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def _malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(RGridError(Code.SUBMISSION_INVALID, _first(list(error.errors()))))

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, RGridError):  # a body that grew too large while it was parsed
            return problem(error.__cause__)
        code = _BY_STATUS.get(error.status_code, Code.SUBMISSION_INVALID)
        return problem(RGridError(code, str(error.detail)), status=error.status_code)

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem(RGridError(Code.INTERNAL, "the gateway failed; its log says how", hint=""))


def _first(errors: list[Any]) -> str:
    """Say in one line what the first mistake is and where."""
    where = ".".join(str(part) for part in errors[0]["loc"] if part != "body")
    what = str(errors[0]["msg"]).removeprefix("Value error, ")
    # What was sent may hold anything at all, lone surrogates among it; the answer is UTF-8.
    return f"{where}: {what}".removeprefix(": ").encode("utf-8", "backslashreplace").decode()
