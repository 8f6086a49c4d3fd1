"""What crosses the border between processes over HTTP: the shapes of `/v1`, used by gateway, client and CLI alike.

One word for one thing: the names here are the names in the tables and in `--json`.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from rgrid.domain.lifecycle import State
from rgrid.domain.reasons import EndReason

MAX_PATH_BYTES = 1024
_DIGEST = r"^[0-9a-f]{64}$"
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def check_path(path: str) -> str:
    """Return `path` if it can be laid out in a workspace; raise `ValueError` saying why it cannot."""
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"the file name {path!r} is not UTF-8") from None
    if not path or len(encoded) > MAX_PATH_BYTES:
        raise ValueError(f"the file name {path[:40]!r} is empty or longer than {MAX_PATH_BYTES} bytes")
    if any(ord(c) < 32 or ord(c) == 127 for c in path):  # noqa: PLR2004  # the control characters of ASCII
        raise ValueError(f"the file name {path!r} has a control character in it")
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"the file name {path!r} would leave the workspace")
    if any(len(part.encode()) > 255 for part in parts):  # noqa: PLR2004  # NAME_MAX of every file system we know
        raise ValueError(f"the file name {path[:40]!r}… has a part longer than 255 bytes")
    return path


def _check_env(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name of an environment variable")
        try:
            check_text(value)
        except ValueError as error:
            raise ValueError(f"the value of {name}: {error}") from None
    return env


def check_text(text: str) -> str:
    """Return `text` if it can be stored and handed to a process; raise `ValueError` saying why it cannot."""
    if "\0" in text:
        raise ValueError("there is a NUL character in it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} is not UTF-8") from None
    return text


def _check_line(line: str) -> str:
    """Return a line of a requirements file that is a requirement, and no option that would come after our own."""
    if "\n" in line or "\r" in line or line.lstrip().startswith("-"):
        raise ValueError(f"{line[:80]!r} is not a requirement")
    return check_text(line)


Text = Annotated[str, AfterValidator(check_text)]
RequirementLine = Annotated[str, AfterValidator(_check_line), Field(max_length=20_000)]
WorkspacePath = Annotated[str, AfterValidator(check_path)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _View(BaseModel):
    """Answers may grow fields that an older client does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class FileEntry(_Wire):
    """A file by its place in the workspace and its content's digest."""

    path: WorkspacePath
    digest: Annotated[str, Field(pattern=_DIGEST)]
    size: int = Field(ge=0)
    executable: bool = False


class Dependencies(_Wire):
    """What a script needs from a package index, as it was declared. The grid resolves it and keeps the lock."""

    kind: Literal["python", "node"] = "python"
    #: Where it was declared, for people: "PEP 723 block", "requirements.txt".
    source: Annotated[Text, Field(max_length=4000)]
    #: PEP 508 requirements, with hashes where they have them; a file among the inputs as `./PATH`.
    requirements: Annotated[list[RequirementLine], Field(max_length=5000)] = []
    constraints: Annotated[list[RequirementLine], Field(max_length=5000)] = []
    #: Indexes the script asks for; the operator's policy decides.
    indexes: Annotated[list[Annotated[str, Field(pattern=r"^https?://[!-~]+$")]], Field(max_length=20)] = []
    #: A lock among the inputs, used as it is: `uv.lock`, `pylock.toml`, `package-lock.json`.
    lock: WorkspacePath | None = None
    #: Inputs that the lock or a requirement refers to: `pyproject.toml`, `package.json`, wheels.
    files: Annotated[list[WorkspacePath], Field(max_length=200)] = []


class Submission(_Wire):
    """A job as a client submits it. The gateway resolves runtime and defaults and checks the ceilings."""

    script: WorkspacePath
    args: list[Text] = Field(default_factory=list, max_length=10_000)
    inputs: list[FileEntry] = Field(default_factory=list)
    name: Annotated[Text | None, Field(max_length=200)] = None
    runtime: Text | None = None
    image: Annotated[Text | None, Field(max_length=500)] = None
    dependencies: Dependencies | None = None
    cpu_millis: int = Field(1000, gt=0)
    memory_bytes: int = Field(512 * 1024**2, gt=0)
    timeout_seconds: float = Field(300, gt=0)
    disk_bytes: int = Field(2 * 1024**3, gt=0)
    env: Annotated[dict[str, str], AfterValidator(_check_env)] = Field(default_factory=dict)
    labels: dict[Text, Text] = Field(default_factory=dict, max_length=64)
    network: bool = False
    priority: int = Field(0, ge=-100, le=100)
    max_retries: int = Field(0, ge=0, le=100)


class AttemptView(_View):
    """One attempt as it is shown."""

    number: int
    state: Literal["assigned", "running", "ended"]
    node: str
    reason: EndReason | None = None
    exit_code: int | None = None
    signal: str | None = None
    message: str = ""
    assigned_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    image_digest: str | None = None
    timings: dict[str, float | None] = {}
    proof: dict[str, Any] = {}


class JobView(_View):
    """One job as it is shown; `attempts` is empty in lists."""

    id: str
    name: str
    owner: str
    state: State
    reason: EndReason | None = None
    exit_code: int | None = None
    message: str = ""
    node: str | None = None
    script: str
    args: list[str]
    runtime: str | None = None
    image: str
    cpu_millis: int
    memory_bytes: int
    timeout_seconds: float
    #: What it needs from a package index, as it was declared.
    dependencies: Dependencies | None = None
    network: bool = False
    priority: int = 0
    labels: dict[str, str] = {}
    submitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    peak_memory_bytes: int | None = None
    attempts: list[AttemptView] = []


class JobPage(_View):
    """Jobs, newest first, and where the next page begins (None on the last)."""

    jobs: list[JobView]
    next: str | None = None


class EventView(_View):
    """Something that happened to a job."""

    at: datetime
    type: str
    attempt: int | None = None
    data: dict[str, Any] = {}


class LogChunk(_View):
    """A piece of one stream of one attempt. `seq` numbers the chunks of both streams in the order they were read."""

    attempt: int
    seq: int
    stream: Literal["stdout", "stderr"]
    #: Byte offset of this piece in its own stream.
    offset: int
    #: The bytes as Latin-1, so that any byte survives JSON.
    data: str


class LogFollow(_View):
    """A line of a followed log: a chunk, or what the job's state has become, or nothing (the line is alive)."""

    chunk: LogChunk | None = None
    state: State | None = None
    #: Phase of a job that does not run yet, for progress: `queued`, `assigned`, `image`, `start` …
    phase: str | None = None
    ended: bool = False


class LockView(_View):
    """Exactly what a job's dependencies were resolved to."""

    format: Literal["requirements", "pylock", "npm"]
    text: str


class OutputView(_View):
    """One file a job left in its workspace."""

    path: str
    digest: str
    size: int
    executable: bool = False


class NodeView(_View):
    """One machine of the grid."""

    name: str
    state: Literal["ready", "unready", "suspect", "lost"]
    #: Why it takes no work, or empty.
    unready: str = ""
    address: str = ""
    cpu_millis: int
    memory_bytes: int
    cpu_millis_used: int = 0
    memory_bytes_used: int = 0
    jobs: int = 0
    engine: str = ""
    #: Process id of its executor.
    pid: int | None = None
    last_seen_at: datetime | None = None


class RuntimeView(_View):
    """One short name and what it stands for."""

    name: str
    image: str
    endings: list[str]
    default: bool = False


class KeyCreate(_Wire):
    """A wish for a new API key."""

    owner: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9@._+-]*$")]
    role: Literal["user", "admin"] = "user"
    name: Annotated[Text, Field(max_length=200)] = ""


class KeyView(_View):
    """An API key as it is listed; `key` is there once, when it is made."""

    id: str
    owner: str
    role: Literal["user", "admin"]
    name: str = ""
    created_at: datetime
    revoked_at: datetime | None = None
    key: str | None = None


class CancelRequest(_Wire):
    """How to stop: after the grace, or now."""

    now: bool = False


class Health(_View):
    """Whether the gateway can do its work, and why not."""

    ready: bool
    version: str
    reason: str = ""
    code: str = ""
    #: The scheduler's process id and when it was last heard, if it ever was.
    scheduler_pid: int | None = None
    scheduler_seen_at: datetime | None = None


class Problem(BaseModel):
    """RFC 9457 problem details with the catalogue's code."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    hint: str = ""
