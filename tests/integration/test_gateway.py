"""The gateway as a process of its own, over HTTP, on a real Postgres. No Ray, no Docker: it needs neither."""

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256

import httpx
import pytest
from sqlalchemy import Engine, text

from rgrid.client import Client
from rgrid.domain.ids import JobId, Lease, NodeName
from rgrid.domain.job import AttemptRef, Ending
from rgrid.domain.lifecycle import State
from rgrid.domain.reasons import EndReason
from rgrid.errors import Code, RGridError
from rgrid.scheduling import commands as cmd
from rgrid.store.engine import make_engine
from rgrid.store.keys import PostgresKeys
from rgrid.store.ledger import PostgresLedger
from rgrid.store.logs import PostgresLogs
from rgrid.store.ports import LogPiece
from rgrid.wire import JobView, Submission
from rgrid_cli.local.ports import free_ports

CODE = b"print('hello')"
DIGEST = sha256(CODE).hexdigest()


class Served:
    """A gateway, two owners and an operator."""

    def __init__(self, url: str, engine: Engine) -> None:
        self.url, self.engine = url, engine
        keys = PostgresKeys(engine)
        # Owners of its own give each test a grid that looks empty.
        self.owner, other = (f"{name}-{secrets.token_hex(4)}" for name in ("me", "you"))
        self.key = keys.create(self.owner).key or ""
        self.me = Client(url, self.key, patience_seconds=0)
        self.you = Client(url, keys.create(other).key or "", patience_seconds=0)
        self.boss = Client(url, keys.create("boss", role="admin").key or "", patience_seconds=0)
        self.ledger = PostgresLedger(engine)
        self.term = self.ledger.begin_term(1)
        self.clients = [self.me, self.you, self.boss]
        self.http = httpx.Client(base_url=f"{url}/v1", headers={"Authorization": f"Bearer {self.key}"}, timeout=20)

    def client(self, key: str) -> Client:
        self.clients.append(Client(self.url, key, patience_seconds=0))
        return self.clients[-1]

    def close(self) -> None:
        self.http.close()
        for client in self.clients:
            client.close()

    def submit(self, **more: object) -> JobView:
        self.me.upload(DIGEST, lambda: iter([CODE]))
        return self.me.submit(submission(**more))

    def assign(self, job: str, number: int = 1) -> AttemptRef:
        ref = AttemptRef(JobId(job), number, Lease(f"{self.term}.{job}.{number}"))
        self.write(cmd.AssignAttempt(ref, NodeName("n1")))
        return ref

    def write(self, *writes: cmd.Write) -> None:
        self.ledger.commit(writes, term=self.term, now=datetime.now(UTC))

    def end(self, ref: AttemptRef, code: int = 0, state: State = State.SUCCEEDED) -> None:
        self.write(cmd.EndAttempt(ref, Ending(EndReason.EXIT, datetime.now(UTC), code), state))


def submission(**more: object) -> Submission:
    return Submission.model_validate(
        {"script": "s.py", "inputs": [{"path": "s.py", "digest": DIGEST, "size": len(CODE)}], **more}
    )


def start(database_url: str, **env: str) -> "tuple[subprocess.Popen[str], str]":
    [port] = free_ports(1)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RGRID_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "rgrid_api"],
        env={**clean, "RGRID_DATABASE_URL": database_url, "RGRID_PORT": str(port), "RGRID_HOME": "/nonexistent", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, f"http://127.0.0.1:{port}"


def stop(process: "subprocess.Popen[str]") -> str:
    process.terminate()
    _, err = process.communicate(timeout=20)
    return err


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/health/live", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def gateway(module_database_url: str, eventually: Callable[..., object]) -> Iterator[str]:
    limits = {"RGRID_MAX_INPUT_BYTES": "8M", "RGRID_MAX_BODY_BYTES": "6M", "RGRID_MAX_MEMORY": "4G"}
    process, url = start(module_database_url, **limits)
    try:
        eventually(lambda: answers(url))
        yield url
    finally:
        told = stop(process)
        assert "Traceback" not in told, told


@pytest.fixture
def served(gateway: str, module_database_url: str) -> Iterator[Served]:
    engine = make_engine(module_database_url)
    made = Served(gateway, engine)
    yield made
    made.close()
    engine.dispose()


def refused(act: Callable[[], object], code: Code) -> RGridError:
    with pytest.raises(RGridError) as caught:
        act()
    assert caught.value.code is code
    return caught.value


def test_submit_needs_its_inputs_first_and_once(served: Served) -> None:
    lacking = refused(lambda: served.me.submit(submission()), Code.INPUTS_MISSING)
    assert lacking.context["digests"] == [DIGEST]
    assert served.http.head(f"/inputs/{DIGEST}").status_code == 404
    job = served.submit()
    assert served.http.head(f"/inputs/{DIGEST}").status_code == 200
    assert (job.state, job.owner, job.runtime, job.image) == ("queued", served.owner, "python", "python:3.11")
    first, second = (served.me.submit(submission(name="x"), "key-1") for _ in range(2))
    assert first.id == second.id
    refused(lambda: served.me.submit(submission(name="y"), "key-1"), Code.IDEMPOTENCY_CONFLICT)
    headers = {"Idempotency-Key": "key-2"}
    body = submission().model_dump(mode="json")
    answered = [served.http.post("/jobs", json=body, headers=headers) for _ in range(2)]
    assert [a.status_code for a in answered] == [201, 200]
    assert answered[0].headers["Location"] == f"/v1/jobs/{answered[0].json()['id']}"


def test_keys_open_only_what_is_theirs(served: Served) -> None:
    job = served.submit()
    for act in (
        lambda: served.you.job(job.id),
        lambda: served.you.cancel(job.id),
        lambda: served.you.events(job.id),
        lambda: served.you.outputs(job.id),
        lambda: list(served.you.follow(job.id)),
        lambda: list(served.you.log(job.id, "stdout")),
    ):
        refused(act, Code.JOB_NOT_FOUND)
    assert served.you.jobs().jobs == []
    assert served.boss.job(job.id).id == job.id
    refused(served.me.keys, Code.NOT_ALLOWED)
    refused(lambda: served.client("rg_wrong").jobs(), Code.KEY_WRONG)
    assert refused(lambda: served.client("").jobs(), Code.KEY_MISSING).status == 401


def test_a_revoked_key_stops_working(served: Served, eventually: Callable[..., object]) -> None:
    made = served.boss.create_key("guest", "user", "for a day")
    guest = served.client(made.key or "")
    assert guest.jobs().jobs == []
    served.boss.revoke_key(made.id)

    def useless() -> bool:
        try:
            guest.jobs()
        except RGridError as error:
            return error.code is Code.KEY_WRONG
        return False

    eventually(useless, 15)
    listed = served.boss.keys()
    assert {k.key for k in listed} == {None}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"memory_bytes": 5 * 1024**3}, Code.LIMIT_EXCEEDED),
        ({"cpu_millis": 65_000}, Code.LIMIT_EXCEEDED),
        ({"timeout_seconds": 10**9}, Code.LIMIT_EXCEEDED),
        ({"memory_bytes": 1}, Code.QUANTITY_INVALID),
        ({"runtime": "pyton"}, Code.RUNTIME_UNKNOWN),
        ({"script": "s"}, Code.SUBMISSION_INVALID),
        ({"disk_bytes": 1}, Code.INPUT_TOO_LARGE),
        ({"dependencies": {"kind": "node", "source": "x"}}, Code.DEPENDENCIES_INVALID),
        ({"dependencies": {"source": "x", "lock": "uv.lock"}}, Code.SUBMISSION_INVALID),
    ],
)
def test_wishes_beyond_the_ceilings(served: Served, more: dict[str, object], code: Code) -> None:
    refused(lambda: served.submit(**more), code)
    assert served.me.jobs().jobs == []


def test_files_that_cannot_be_laid_out(served: Served) -> None:
    def files(*paths: str) -> dict[str, object]:
        return {"script": "s.py", "inputs": [{"path": p, "digest": DIGEST, "size": 1} for p in ("s.py", *paths)]}

    for paths in (["../x"], ["/etc/passwd"], ["a\nb"], ["a/../b"], ["s.py"], ["s.py/under"], ["d", "d/e"], ["\udcff"]):
        body = json.dumps(files(*paths)).encode()
        answer = served.http.post("/jobs", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, paths
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "submission-invalid"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"script": 1}',
        b'{"script":"a\\u0000.py"}',
        b'{"script":"a.py","args":["\\ud800"]}',
        b"{}" * 100,
        b"1e999",
    ],
)
@pytest.mark.parametrize("path", ["/jobs", "/keys", "/jobs/x/cancel"])
def test_no_bad_body_is_our_fault(served: Served, path: str, body: bytes) -> None:
    answer = served.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PATCH", "/jobs", 405),
        ("GET", "/jobs?limit=0", 422),
        ("GET", "/jobs?limit=x", 422),
        ("GET", "/jobs?state=odd", 422),
        ("GET", "/jobs?label=x", 422),
        ("GET", "/jobs/%00", 422),
        ("GET", "/jobs?name=%00", 422),
        ("GET", "/jobs/none", 404),
        ("GET", "/jobs/none/logs?offset=-1", 422),
        ("PUT", "/inputs/nothex", 422),
        ("GET", "/jobs/none/outputs/x", 404),
    ],
)
def test_every_refusal_is_a_problem(served: Served, method: str, path: str, status: int) -> None:
    answer = served.http.request(method, path)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code"} <= set(answer.json())
    assert answer.headers["RGrid-Version"]


def test_inputs_are_checked_and_bounded(served: Served) -> None:
    assert served.http.put(f"/inputs/{DIGEST}", content=b"other").json()["code"] == "digest-mismatch"
    assert served.http.put(f"/inputs/{DIGEST}", content=b"x" * (9 * 1024**2)).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 1024**2

    assert served.http.put(f"/inputs/{DIGEST}", content=endless()).status_code == 413
    assert served.http.post("/jobs", content=b" " * (7 * 1024**2)).status_code == 413
    too_much = served.http.post("/jobs", content=endless(), headers={"Content-Type": "application/json"})
    assert (too_much.status_code, too_much.json()["code"]) == (413, "body-too-large")
    assert served.http.head(f"/inputs/{DIGEST}").status_code == 404
    big = os.urandom(3 * 1024**2 + 1)
    served.me.upload(sha256(big).hexdigest(), lambda: iter([big[:1000], big[1000:]]))


def test_an_upload_that_falls_silent_is_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second gateway in this process, for its patience can be shortened."""
    import anyio

    from rgrid.settings import load_settings
    from rgrid_api.app import create_app
    from rgrid_api.routes import inputs

    monkeypatch.setattr(inputs, "SILENCE_SECONDS", 0.2)
    app = create_app(load_settings(), served.engine.url.render_as_string(hide_password=False))

    async def silent():  # noqa: ANN202
        yield b"half"
        await anyio.sleep(30)

    async def upload() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {served.key}"}
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client,
        ):
            return await client.put(f"/v1/inputs/{DIGEST}", content=silent())

    answer = anyio.run(upload)
    assert (answer.status_code, answer.json()["code"]) == (408, "upload-stalled")


def test_waiting_wakes_at_the_end(served: Served) -> None:
    job = served.submit()
    assert served.me.job(job.id, wait=0.2).state == "queued"
    ref = served.assign(job.id)
    timer = threading.Timer(0.3, served.end, [ref])
    timer.start()
    began = datetime.now(UTC)
    assert served.me.job(job.id, wait=30).state == "succeeded"
    assert (datetime.now(UTC) - began).total_seconds() < 10
    timer.join()


def test_logs_by_range_and_as_they_grow(served: Served) -> None:
    job = served.submit()
    logs = PostgresLogs(served.engine)
    lines: list[str] = []
    states: list[str] = []

    def follow() -> None:
        for line in served.me.follow(job.id):
            if line.chunk is not None:
                lines.append(f"{line.chunk.attempt}:{line.chunk.stream}:{line.chunk.data}")
            elif line.state is not None:
                states.append(line.state)

    follower = threading.Thread(target=follow)
    follower.start()
    first = served.assign(job.id)
    logs.append(first.job, 1, [LogPiece("stdout", b"one\n", "", 1, 1, 0), LogPiece("stderr", b"\xff\n", "", 1, 2, 0)])
    served.end(first, 1, State.QUEUED)
    second = served.assign(job.id, 2)
    logs.append(second.job, 2, [LogPiece("stdout", b"two\n", "", 2, 1, 0)])
    served.end(second)
    follower.join(20)
    assert lines == ["1:stdout:one\n", "1:stderr:\xff\n", "2:stdout:two\n"]
    assert states[-1] == "succeeded"
    assert b"".join(served.me.log(job.id, "stdout")) == b"two\n"
    assert b"".join(served.me.log(job.id, "stderr", attempt=1)) == b"\xff\n"
    answer = served.http.get(f"/jobs/{job.id}/logs?attempt=1&offset=1&limit=2")
    assert (answer.content, answer.headers["X-Next-Offset"], answer.headers["X-Attempt"]) == (b"ne", "3", "1")
    resumed = [line.chunk.data for line in served.me.follow(job.id, 1, 2) if line.chunk]
    assert resumed == ["two\n"]


def test_health_tells_what_is_wrong(empty_database_url: str, eventually: Callable[..., object]) -> None:
    [nobody] = free_ports(1)
    process, url = start(f"postgresql://u:p@127.0.0.1:{nobody}/x")
    try:
        eventually(lambda: answers(url))
        answer = httpx.get(f"{url}/v1/health/ready", timeout=20)
        assert (answer.status_code, answer.json()["ready"], answer.json()["code"]) == (
            503,
            False,
            "database-unreachable",
        )
        answer = httpx.get(f"{url}/v1/jobs", headers={"Authorization": "Bearer x"}, timeout=20)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    finally:
        assert "Traceback" not in stop(process)
    process, url = start(empty_database_url)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 125
    assert "schema-unknown" in told
    assert "rgrid db upgrade" in told


def test_live_jobs_are_counted_each_owner_theirs(served: Served) -> None:
    served.me.upload(DIGEST, lambda: iter([CODE]))
    ended = served.submit()
    served.submit()
    write = cmd.EndJob(JobId(ended.id), State.CANCELLED, EndReason.CANCELLED)
    served.ledger.commit([write], term=served.term, now=datetime.now(UTC))
    mine = served.me.counts()
    assert (mine[State.QUEUED], sum(mine.values())) == (1, 1)
    assert sum(served.you.counts().values()) == 0
    assert served.boss.counts()[State.QUEUED] >= 1


def test_a_taken_port_is_said(database_url: str, served: Served) -> None:
    process, _ = start(database_url, RGRID_PORT=served.url.rsplit(":", 1)[1])
    _, told = process.communicate(timeout=30)
    assert process.returncode == 125
    assert "error[port-taken]" in told
    assert "Traceback" not in told


def test_ready_when_all_is_well(served: Served) -> None:
    assert served.me.health().ready
    assert served.me.runtimes()[0].name == "python"
    assert served.me.nodes() == []


def test_a_gateway_that_lost_postgres_comes_back(postgres_url: str, served: Served) -> None:
    """Connections cut under it are made anew; nobody sees an error of ours."""
    engine = make_engine(postgres_url)
    with engine.begin() as tx:
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rgrid gateway'"
        tx.execute(text(cut))
    engine.dispose()
    assert served.me.jobs().jobs == []


def test_openapi_describes_it(served: Served) -> None:
    paths = httpx.get(f"{served.url}/openapi.json").json()["paths"]
    assert {"/v1/jobs", "/v1/inputs/{digest}", "/v1/jobs/{job}/logs/follow", "/v1/health/ready"} <= set(paths)
