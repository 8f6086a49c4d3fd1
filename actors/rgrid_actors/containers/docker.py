"""`Containers` on a Docker engine, through its SDK. Docker's exceptions end here and keep their cause."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound
from docker.utils import kwargs_from_env

from rgrid.domain.ids import GridId, JobId, Lease, NodeName
from rgrid.domain.job import AttemptOrder, AttemptRef
from rgrid.errors import Code, RGridError
from rgrid_actors.containers import builder, cgroup, images, spec
from rgrid_actors.containers.builder import Bounds, BuilderOrder, Built
from rgrid_actors.containers.logs import entries, since
from rgrid_actors.containers.port import EngineEvent, Exit, Found, LogEntry, Usage

#: How long the engine may take to answer one question. Starting under load is the slowest of them.
TIMEOUT_SECONDS = 60
_CONFLICT = 409
_NOT_MODIFIED = 304
_NEVER = "0001-01-01"
#: A command that no image has, or that its kernel cannot run, is told of by runc in these words.
_NOT_RUNNABLE = ("executable file not found", "no such file or directory", "exec format error", "permission denied")


class DockerContainers:
    """One engine's containers of one grid and node."""

    def __init__(self, grid: GridId, node: NodeName, *, host: str | None = None, runtime: str | None = None) -> None:
        """Connect lazily; `host` is where the engine listens, or None for DOCKER_HOST and then the usual socket."""
        self._grid, self._node, self._host, self._runtime = grid, node, host, runtime
        self._lock, self._lock_network = threading.Lock(), threading.Lock()
        self._client: docker.APIClient | None = None
        self._cpu_count: int | None = None
        self._cgroups: dict[str, cgroup.CgroupFiles | None] = {}

    def ping(self) -> str:
        """Return the engine's version."""
        with _translated():
            return str(self._api().version(api_version=False)["Version"])

    def find_image(self, image: str) -> str | None:
        """Look for the image."""
        with _translated():
            return images.find(self._api(), image)

    def pull_image(self, image: str, progress: Callable[[str], None], *, deadline: float) -> str:
        """Pull the image, over a connection of its own."""
        with _translated(), closing(self._connect(images.SILENCE_SECONDS)) as client:
            return images.pull(client, image, progress, deadline=deadline)

    def run_builder(self, order: BuilderOrder, bounds: Bounds, tell: Callable[[str], None]) -> Built:
        """Run a builder to its end."""
        labels = {spec.LABEL_GRID: self._grid, spec.LABEL_NODE: self._node, spec.LABEL_BUILDER: order.name}
        with _translated():
            api = self._api()
            order = replace(
                order,
                name=f"rgrid-{self._grid}-{self._node}-{order.name}",
                network=order.network or self._network(api),
                nano_cpus=min(order.nano_cpus, self._cpus(api) * 1_000_000_000),
            )
            config = api.create_host_config(**builder.host_config(order))
            made = api.create_container(**builder.create_arguments(order, labels), host_config=config)
            try:
                api.start(made["Id"])
                return builder.watch(api, made["Id"], order, bounds, tell)
            finally:
                self.remove(made["Id"])

    def remove_builders(self) -> None:
        """Remove builders by their label."""
        with _translated():
            wanted = [*self._label_filters(), spec.LABEL_BUILDER]
            for row in self._api().containers(all=True, filters={"label": wanted}):
                self.remove(row["Id"])

    def create(
        self,
        order: AttemptOrder,
        *,
        workspace: Path,
        uid: int,
        gid: int,
        image_id: str,
        environment: tuple[Path, str] | None = None,
    ) -> str:
        """Make the container, or find the one of an earlier try."""
        with _translated():
            api = self._api()
            network = self._network(api) if order.spec.network else "none"
            place = spec.Place(
                self._grid, self._node, workspace, uid, gid, self._runtime, network, self._cpus(api), environment
            )
            if environment is not None:
                place = replace(place, path=_path_of(api, image_id))
            config = api.create_host_config(**spec.host_config(order, place))
            arguments = spec.create_arguments(order, place, image_id)
            try:
                made = api.create_container(**arguments, host_config=config)
            except APIError as error:
                if error.status_code != _CONFLICT:
                    raise
                made = api.inspect_container(arguments["name"])
            return str(made["Id"])

    def start(self, container: str) -> None:
        """Start it, unless it was: the engine would start one that has ended a second time."""
        with _translated():
            if _time(self._api().inspect_container(container)["State"]["StartedAt"]) is not None:
                return
            try:
                self._api().start(container)
            except APIError as error:
                words = str(error.explanation or error)
                if any(sign in words for sign in _NOT_RUNNABLE):
                    command = words.partition("exec: ")[2].partition(":")[0] or "the command"
                    raise RGridError(
                        Code.IMAGE_UNAVAILABLE, f"the image cannot run {command}: {words.rsplit(': ', 1)[-1]}"
                    ) from error
                raise

    def signal(self, container: str, name: str) -> None:
        """Send a signal; ended already is as good."""
        with _translated():
            try:
                self._api().kill(container, name)
            except APIError as error:
                if error.status_code not in {_CONFLICT, 404}:  # 409: it is not running
                    raise

    def inspect(self, container: str) -> Exit | None:
        """Return how it ended."""
        with _translated():
            state = self._api().inspect_container(container)["State"]
        if state["Running"] or state["Status"] == "created":
            return None
        self._cgroups.pop(container, None)
        return Exit(
            exit_code=state["ExitCode"],
            oom_killed=bool(state["OOMKilled"]),
            started_at=_time(state["StartedAt"]),
            finished_at=_time(state["FinishedAt"]),
            error=state.get("Error") or "",
        )

    def usage(self, container: str) -> Usage | None:
        """Read the cgroup; where it is is asked once."""
        if container not in self._cgroups:
            self._cgroups[container] = self._find_cgroup(container)
        files = self._cgroups[container]
        return None if files is None else cgroup.read(files)

    def logs(self, container: str, *, cursor: str, follow: bool = True) -> Iterator[LogEntry]:
        """Read what it writes, over a connection of its own that may be silent for ever."""
        with _translated():
            client = self._connect(None)
            try:
                wanted: dict[str, int | str] = {
                    "follow": int(follow),
                    "stdout": 1,
                    "stderr": 1,
                    "timestamps": 1,
                    "since": since(cursor),
                }
                # docker-py's own `logs` tells the two streams apart only where there is no following.
                url = f"{client.base_url}/v{client.api_version}/containers/{container}/logs"
                with client.get(url, params=wanted, stream=True, timeout=None) as response:
                    if response.status_code == requests.codes.not_found:
                        raise RGridError(Code.NOT_FOUND, f"container {container[:12]} is gone")
                    response.raise_for_status()
                    yield from entries(_pieces(response), cursor)
            finally:
                client.close()

    def find(self) -> list[Found]:
        """Find containers by their labels."""
        with _translated():
            rows = self._api().containers(all=True, filters={"label": self._label_filters()})
        return [Found(row["Id"], ref) for row in rows if (ref := _ref(row["Labels"])) is not None]

    def remove(self, container: str) -> None:
        """Remove it with its volumes."""
        self._cgroups.pop(container, None)
        with _translated():
            try:
                self._api().remove_container(container, force=True, v=True)
            except NotFound:
                return
            except APIError as error:
                if error.status_code != _CONFLICT:  # somebody removes it at this moment
                    raise

    def events(self, *, since: float) -> Iterator[EngineEvent]:
        """Listen for ends and memory kills."""
        with _translated():
            client = self._connect(None)
            try:
                wanted = {"type": ["container"], "event": ["oom", "die"], "label": self._label_filters()}
                # The engine takes fractions of a second; the stubs do not know.
                happened = client.events(since=f"{since:.9f}", filters=wanted, decode=True)  # type: ignore[call-overload]
                for event in happened:
                    ref = _ref(event["Actor"]["Attributes"])
                    if ref is not None:
                        yield EngineEvent(event["Action"], event["Actor"]["ID"], ref, event["timeNano"] / 1e9)
            finally:
                client.close()

    def close(self) -> None:
        """Close the connections that answer questions."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    # -- parts --------------------------------------------------------------------------------------------------------

    def _api(self) -> docker.APIClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect(TIMEOUT_SECONDS)
            return self._client

    def _connect(self, timeout: int | None) -> docker.APIClient:
        settings: dict[str, Any] = {**kwargs_from_env()}
        if self._host is not None:
            settings["base_url"] = self._host
        # `timeout=None` would mean docker-py's default; requests takes None on each call as "no limit".
        client = docker.APIClient(**settings, version="auto", timeout=timeout or TIMEOUT_SECONDS, max_pool_size=64)
        if timeout is None:
            client.timeout = None  # type: ignore[assignment]  # the stubs say int, requests takes both
        return client

    def _cpus(self, api: docker.APIClient) -> int:
        if self._cpu_count is None:
            self._cpu_count = int(api.info()["NCPU"])
        return self._cpu_count

    def _network(self, api: docker.APIClient) -> str:
        """Return the grid's own network, on which containers do not see one another."""
        name = f"rgrid-{self._grid}"
        with self._lock_network:
            if not api.networks(names=[f"^{name}$"]):
                quiet = {"com.docker.network.bridge.enable_icc": "false"}
                api.create_network(
                    name, driver="bridge", options=quiet, labels={spec.LABEL_GRID: self._grid}, check_duplicate=True
                )
        return name

    def _label_filters(self) -> list[str]:
        return [f"{spec.LABEL_GRID}={self._grid}", f"{spec.LABEL_NODE}={self._node}"]

    def _find_cgroup(self, container: str) -> cgroup.CgroupFiles | None:
        with suppress(OSError, RGridError, ValueError), _translated():
            pid = self._api().inspect_container(container)["State"]["Pid"]
            return cgroup.find(Path(f"/proc/{pid}/cgroup").read_text()) if pid else None
        return None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise RGridError(Code.NOT_FOUND, str(error.explanation or error)) from error
    except APIError as error:
        raise RGridError(Code.INTERNAL, f"Docker: {error.explanation or error}", hint="") from error
    except (DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise RGridError(Code.DOCKER_UNREACHABLE, f"the Docker engine does not answer: {error}") from error


def _path_of(api: docker.APIClient, image_id: str) -> str:
    """Return where the image looks for commands."""
    found: dict[str, Any] = api.inspect_image(image_id)  # type: ignore[no-untyped-call]
    variables = (found.get("Config") or {}).get("Env") or []
    return next((word.removeprefix("PATH=") for word in variables if word.startswith("PATH=")), spec.PATH)


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """Give bytes as they come: `iter_content` would wait for a buffer to fill."""
    while piece := response.raw.read1(1024 * 1024):
        yield piece


def _ref(labels: dict[str, str]) -> AttemptRef | None:
    try:
        return AttemptRef(
            JobId(labels[spec.LABEL_JOB]), int(labels[spec.LABEL_ATTEMPT]), Lease(labels[spec.LABEL_LEASE])
        )
    except (KeyError, ValueError):
        return None


def _time(text: str) -> datetime | None:
    if not text or text.startswith(_NEVER):
        return None
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6].ljust(6, '0')}+00:00")
