"""`python -m rgrid_api`: the gateway as a process of its own."""

import logging
import socket
import sys

import uvicorn

from rgrid.access import database_url
from rgrid.errors import Code, RGridError
from rgrid.settings import settings
from rgrid.store.engine import make_engine
from rgrid.store.schema import check
from rgrid_api.app import create_app

#: Followers get this long to notice that the gateway goes.
GOODBYE_SECONDS = 3


def main() -> int:
    """Serve until asked to stop."""
    try:
        chosen, url = settings(), database_url()
        logging.basicConfig(level=chosen.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        _check_schema(url)
        listening = _listen(chosen.host, chosen.port)
    except RGridError as error:
        sys.stderr.write(f"error[{error.code}]: {error.message}\nhint: {error.hint}\n")
        return error.exit_code
    config = uvicorn.Config(
        create_app(chosen, url),
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GOODBYE_SECONDS,
        timeout_keep_alive=30,
    )
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def _check_schema(url: str) -> None:
    """Refuse a schema that is not ours. A Postgres that is away is no reason: it may come back."""
    engine = make_engine(url)
    try:
        check(engine)
    except RGridError as error:
        if error.code is Code.SCHEMA_UNKNOWN:
            raise
        logging.getLogger(__name__).warning("starting without Postgres: %s", error.message)
    finally:
        engine.dispose()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise RGridError(Code.PORT_TAKEN, f"cannot listen on {host}:{port}: {error.strerror}") from error
    listening.set_inheritable(True)
    return listening


if __name__ == "__main__":
    raise SystemExit(main())
