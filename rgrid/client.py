"""The HTTP client of a gateway: one method per route, problems as `RGridError`, and patience with what may pass.

Light on purpose: the base install has nothing else to reach a grid with. It refuses to know how a grid is started.
"""

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from rgrid import __version__
from rgrid.access import gateway
from rgrid.domain.lifecycle import State
from rgrid.errors import Code, RGridError
from rgrid.settings import Settings
from rgrid.wire import (
    EventView,
    Health,
    JobPage,
    JobView,
    KeyView,
    LockView,
    LogFollow,
    NodeView,
    OutputView,
    RuntimeView,
    Submission,
)

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
#: How long a gateway that is away is tried again before a command gives up: its supervisor restarts it in a few.
PATIENCE_SECONDS = 8.0
#: Whoever follows a job has waited already, and has more to lose.
FOLLOW_PATIENCE_SECONDS = 60.0
#: A follower hears something at least every 15 s; silence for longer means that the line is dead.
FOLLOW_SILENCE_SECONDS = 45.0
_UNAVAILABLE = 503
_PASSING = {Code.GRID_UNREACHABLE, Code.DATABASE_UNREACHABLE}


class Client:
    """One gateway and one key.

    >>> client = Client("http://127.0.0.1:8000", "rg_…")  # doctest: +SKIP
    """

    def __init__(self, url: str, key: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Keep URL and key; nothing is sent yet."""
        import httpx

        self.url, self._patience = url.rstrip("/"), patience_seconds
        headers = {"User-Agent": f"rgrid/{__version__}"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._http = httpx.Client(
            base_url=f"{self.url}/v1",
            headers=headers,
            timeout=httpx.Timeout(30.0, connect=5.0),
            trust_env=not _is_local(self.url),
        )

    @classmethod
    def from_settings(cls, chosen: Settings) -> "Client":
        """Return a client of the grid that is meant; raise `grid-not-configured` where none is known."""
        where = gateway(chosen)
        if where is None:
            raise RGridError(Code.GRID_NOT_CONFIGURED)
        return cls(*where)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def submit(self, submission: Submission, idempotency_key: str | None = None) -> JobView:
        """Submit; sent again after a lost connection, it is still one job."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4()), "Content-Type": "application/json"}
        body = submission.model_dump_json().encode()
        return JobView.model_validate(self._json("POST", "/jobs", content=body, headers=headers))

    def upload(self, digest: str, pieces: Callable[[], Iterator[bytes]]) -> None:
        """Upload an input; `pieces` is called again for each try."""
        self._insist(lambda: self._send("PUT", f"/inputs/{digest}", content=pieces(), timeout=300.0))

    def job(self, job: str, *, wait: float = 0.0) -> JobView:
        """Return a job; with `wait` (seconds, at most 60), once it has ended or that time has passed."""
        parameters = {"wait": wait} if wait else {}
        return JobView.model_validate(self._json("GET", f"/jobs/{quote(job)}", params=parameters, timeout=wait + 30))

    def jobs(
        self,
        *,
        states: Sequence[str] = (),
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        owner: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """Return a page of jobs, newest first."""
        parameters: dict[str, Any] = {"state": list(states), "limit": limit, "name": name, "owner": owner}
        parameters |= {"before": before, "label": [f"{k}={v}" for k, v in (labels or {}).items()]}
        wanted = {key: value for key, value in parameters.items() if value not in (None, [])}
        return JobPage.model_validate(self._json("GET", "/jobs", params=wanted))

    def counts(self) -> dict[State, int]:
        """Return how many live jobs are in each state."""
        return {State(state): count for state, count in self._json("GET", "/jobs/counts").items()}

    def cancel(self, job: str, *, now: bool = False) -> JobView:
        """Ask for the end of a job."""
        return JobView.model_validate(self._json("POST", f"/jobs/{quote(job)}/cancel", json={"now": now}))

    def events(self, job: str) -> list[EventView]:
        """Return what happened to a job."""
        return [EventView.model_validate(row) for row in self._json("GET", f"/jobs/{quote(job)}/events")]

    def log(self, job: str, stream: str, *, attempt: int = 0, offset: int = 0) -> Iterator[bytes]:
        """Give one stream of an attempt (the last, when 0), as far as it has come."""
        path = f"/jobs/{quote(job)}/logs"
        while True:
            parameters = {"stream": stream, "attempt": attempt, "offset": offset}
            at = offset
            response = self._insist(lambda: self._send("GET", path, params=parameters))  # noqa: B023  # called at once
            if not response.content:
                return
            yield response.content
            offset = at + len(response.content)

    def follow(self, job: str, attempt: int = 0, seq: int = 0) -> Iterator[LogFollow]:
        """Give both streams behind a piece as they come, until the job has ended; take up a lost connection again."""
        away_since: float | None = None
        while True:
            try:
                for line in self._follow_once(job, attempt, seq):
                    away_since = None
                    if line.chunk is not None:
                        attempt, seq = line.chunk.attempt, line.chunk.seq
                    yield line
                    if line.ended:
                        return
            except RGridError as error:
                if error.code not in _PASSING:
                    raise
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > FOLLOW_PATIENCE_SECONDS:
                    raise
            time.sleep(0.3)

    def lock(self, job: str) -> LockView:
        """Return what a job's dependencies were resolved to."""
        return LockView.model_validate(self._json("GET", f"/jobs/{quote(job)}/lock"))

    def outputs(self, job: str) -> list[OutputView]:
        """Return what a job left behind."""
        return [OutputView.model_validate(row) for row in self._json("GET", f"/jobs/{quote(job)}/outputs")]

    @contextmanager
    def output(self, job: str, path: str) -> Iterator[Iterator[bytes]]:
        """Open one output for reading."""
        with self._translated(), self._http.stream("GET", f"/jobs/{quote(job)}/outputs/{quote(path)}") as response:
            if response.is_error:
                response.read()
                self._check(response)
            yield response.iter_bytes()

    # -- the grid -----------------------------------------------------------------------------------------------------

    def nodes(self) -> list[NodeView]:
        """Return the machines of the grid."""
        return [NodeView.model_validate(row) for row in self._json("GET", "/nodes")]

    def runtimes(self) -> list[RuntimeView]:
        """Return the short names of what can run a script."""
        return [RuntimeView.model_validate(row) for row in self._json("GET", "/runtimes")]

    def health(self) -> Health:
        """Return whether the gateway can do its work; one that cannot says why."""
        with self._translated():
            response = self._http.get("/health/ready", timeout=5.0)
        try:
            return Health.model_validate(response.json())
        except ValueError as error:
            raise RGridError(Code.GRID_UNREACHABLE, f"{self.url} is not a gateway of RGrid") from error

    def me(self) -> str:
        """Return the owner this key speaks for."""
        return str(self._json("GET", "/me")["owner"])

    def create_key(self, owner: str, role: str, name: str) -> KeyView:
        """Make an API key."""
        return KeyView.model_validate(self._json("POST", "/keys", json={"owner": owner, "role": role, "name": name}))

    def keys(self) -> list[KeyView]:
        """Return all API keys."""
        return [KeyView.model_validate(row) for row in self._json("GET", "/keys")]

    def revoke_key(self, key: str) -> KeyView:
        """Make an API key useless."""
        return KeyView.model_validate(self._json("DELETE", f"/keys/{quote(key)}"))

    # -- parts --------------------------------------------------------------------------------------------------------

    def _json(self, method: str, path: str, **words: Any) -> Any:
        response = self._insist(lambda: self._send(method, path, **words))
        try:
            return response.json()
        except json.JSONDecodeError as error:
            raise RGridError(Code.GRID_UNREACHABLE, f"{self.url} is not a gateway of RGrid") from error

    def _send(self, method: str, path: str, **words: Any) -> "httpx.Response":
        with self._translated():
            response = self._http.request(method, path, **words)
        self._check(response)
        return response

    def _insist(self, act: Callable[[], T]) -> T:
        """Do it again while the gateway, or its Postgres, is away. Every request here may be repeated."""
        began, pause = time.monotonic(), 0.2
        while True:
            try:
                return act()
            except RGridError as error:
                if error.code not in _PASSING or time.monotonic() - began + pause > self._patience:
                    raise
            time.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311  # so that clients do not come back together
            pause = min(pause * 2, 3.0)

    def _follow_once(self, job: str, attempt: int, seq: int) -> Iterator[LogFollow]:
        import httpx

        silence = httpx.Timeout(FOLLOW_SILENCE_SECONDS, connect=5.0)
        parameters = {"attempt": attempt, "seq": seq}
        path = f"/jobs/{quote(job)}/logs/follow"
        with self._translated(), self._http.stream("GET", path, params=parameters, timeout=silence) as response:
            if response.is_error:
                response.read()
                self._check(response)
            for line in response.iter_lines():
                yield LogFollow.model_validate_json(line)

    def _check(self, response: "httpx.Response") -> None:
        if not response.is_error:
            _check_version(response.headers.get("RGrid-Version"))
            return
        try:
            problem = response.json()
            code = Code(problem.pop("code"))
        except (ValueError, KeyError, AttributeError):
            raise RGridError(
                Code.GRID_UNREACHABLE, f"{self.url} answers {response.status_code} and is not a gateway of RGrid"
            ) from None
        known = {"type", "title", "status", "detail", "hint"}
        context = {key: value for key, value in problem.items() if key not in known}
        raise RGridError(code, problem.get("detail", ""), hint=problem.get("hint"), **context)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise RGridError(
                Code.SETTING_INVALID, f"{self.url!r} is not a URL", hint="Set RGRID_API_URL like http://host:port."
            ) from error
        except httpx.HTTPError as error:
            raise RGridError(Code.GRID_UNREACHABLE, f"the gateway at {self.url} does not answer: {error}") from error


def _check_version(theirs: str | None) -> None:
    """Refuse a grid whose major or minor version is another: the two may mean different things by one word."""
    if theirs is not None and theirs.split(".")[:2] != __version__.split(".")[:2]:
        raise RGridError(
            Code.GRID_VERSION,
            f"the grid runs RGrid {theirs}, this command is {__version__}",
            hint=f"Install the grid's version here, with `pip install 'rgrid=={theirs}'`.",
        )


def _is_local(url: str) -> bool:
    """Say whether a URL is this machine's own: a proxy has no business there."""
    from httpx import URL

    return URL(url).host in {"127.0.0.1", "localhost", "::1"}
