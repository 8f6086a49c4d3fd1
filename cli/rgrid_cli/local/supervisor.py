"""The one long-lived parent of a local grid: brings its parts up, watches over them, takes them down in order.

It is the only one that starts and ends them, it holds the home's lock while it lives, and it writes down whom it
started; so whoever comes after a crash of its own ends exactly those, and job containers are left to be adopted.

Told by lines of JSON on stdout how it comes along (`{"step": ...}`, then `{"ready": true}` or `{"failed": ...}`).
"""

import fcntl
import getpass
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from rgrid import __version__
from rgrid.errors import Code, RGridError
from rgrid.home import GridFile, read_grid, write_grid
from rgrid.settings import Settings, settings
from rgrid_cli.local.plan import Plan, host_name, make_plan
from rgrid_cli.local.postgres import EmbeddedPostgres
from rgrid_cli.local.processes import Child, end_tree, last_words, record, recorded
from rgrid_cli.local.ray_head import RayHead

log = logging.getLogger("rgrid.supervisor")

LOCK_FILE = "supervisor.lock"
PROCESSES_FILE = "processes.json"
GATEWAY_SECONDS = 30.0
BOOT_SECONDS = 90.0
WATCH_SECONDS = 1.0
#: A scheduler that has not been heard for so long is booted again; Ray restarts one that died within a second or two.
SCHEDULER_SILENT_SECONDS = 15.0
STOP_SECONDS = 6.0
Tell = Callable[[dict[str, object]], None]


class Supervisor:
    """A local grid's parts and their order."""

    def __init__(self, chosen: Settings, tell: Tell, *, cpus: int | None = None) -> None:
        """Take the settings and somebody to tell; `run` does everything."""
        self._settings, self._home, self._tell, self._cpus = chosen, chosen.home, tell, cpus
        self._stopping = threading.Event()
        self._postgres: EmbeddedPostgres | None = None
        self._ray: RayHead | None = None
        self._gateway: Child | None = None
        self._database_url = ""
        self._booting: subprocess.Popen[bytes] | None = None
        self._next_boot = 0.0

    def run(self) -> None:
        """Bring the grid up, keep it up until asked to stop, take it down."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = _lock(self._home)
        try:
            self._end_leftovers()
            try:
                self._bring_up()
                self._tell({"ready": True})
                while not self._stopping.wait(WATCH_SECONDS):
                    self._watch()
            finally:
                self._take_down()
        finally:
            lock.close()

    def stop(self) -> None:
        """Ask for the end; safe to call from a signal handler."""
        self._stopping.set()

    # -- up -----------------------------------------------------------------------------------------------------------

    def _bring_up(self) -> None:
        plan, as_it_was = make_plan(self._settings)
        self._plan = plan
        self._node = self._settings.node_name or host_name()
        if not as_it_was:
            shutil.rmtree(self._home / "gcs", ignore_errors=True)  # its actors know the old ports
        with ThreadPoolExecutor(2) as pool:
            ray = pool.submit(self._start_ray, plan)
            try:
                self._start_postgres(plan)
                self._start_gateway(plan)
            finally:
                ray.result()
        self._write_down(plan)
        began = time.monotonic()
        self._boot()
        self._step("scheduler and executor", began)

    def _start_postgres(self, plan: Plan) -> None:
        from rgrid.store.engine import make_engine
        from rgrid.store.keys import PostgresKeys
        from rgrid.store.schema import upgrade

        began = time.monotonic()
        if self._settings.database_url is not None:
            self._database_url = self._settings.database_url.get_secret_value()
        else:
            self._postgres = EmbeddedPostgres(self._home, port=plan.postgres_port, password=plan.postgres_password)
            self._postgres.start()
            self._database_url = self._postgres.url
        upgrade(self._database_url)
        engine = make_engine(self._database_url)
        PostgresKeys(engine).ensure(plan.api_key, _user(), "admin", "local grid")
        engine.dispose()
        self._step("Postgres" if self._postgres else "Postgres (yours)", began)

    def _start_ray(self, plan: Plan) -> None:
        if self._settings.ray_address is not None:
            return
        began = time.monotonic()
        self._ray = RayHead(
            self._home, node=self._node, port=plan.ray_port, dashboard_port=plan.dashboard_port, cpus=self._cpus
        )
        self._ray.start()
        self._step("Ray", began)

    def _start_gateway(self, plan: Plan) -> None:
        began = time.monotonic()
        env = {
            "RGRID_HOME": str(self._home),
            "RGRID_DATABASE_URL": self._database_url,
            "RGRID_HOST": self._settings.host,
            "RGRID_PORT": str(plan.gateway_port),
        }
        self._gateway = Child(
            "gateway", [sys.executable, "-m", "rgrid_api"], env=env, log=self._home / "logs" / "gateway.log"
        )
        self._gateway.start()
        deadline = time.monotonic() + GATEWAY_SECONDS
        while not _answers(f"{self._api_url(plan)}/v1/health/ready"):
            if not self._gateway.alive() or time.monotonic() > deadline:
                raise RGridError(
                    Code.GRID_START_FAILED,
                    f"the gateway did not start: {self._gateway.last_words()} ({self._gateway.log})",
                )
            time.sleep(0.05)
        self._step("gateway", began)

    def _boot(self) -> None:
        """See that scheduler and executors are there; a head that came back with stale memory gets one fresh start."""
        for fresh in (False, True):
            process = self._start_boot()
            try:
                code = process.wait(BOOT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            if code == 0:
                return
            if fresh or self._ray is None or self._stopping.is_set():
                break
            log.warning("the actors did not come up; starting Ray afresh")
            self._ray.stop()
            self._ray.forget()
            self._ray.start()
        boot_log = self._home / "logs" / "boot.log"
        raise RGridError(Code.GRID_START_FAILED, f"the actors did not come up: {last_words(boot_log)} ({boot_log})")

    def _start_boot(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, "RGRID_HOME": str(self._home), "RGRID_DATABASE_URL": self._database_url}
        env |= self._ray.environment() if self._ray else {}
        words = [sys.executable, "-m", "rgrid_actors.boot", "--ray-address", self._ray_address()]
        with (self._home / "logs" / "boot.log").open("ab") as out:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd="/")

    # -- watching -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """See that everything lives; what died is started again, and a boot puts the actors back."""
        plan = self._plan
        try:
            if self._postgres is not None and self._postgres.pid is None:
                log.warning("Postgres died; starting it again")
                self._postgres.start()
                self._write_down(plan)
            if self._gateway is not None and not self._gateway.alive():
                log.warning("the gateway died; starting it again: %s", self._gateway.last_words())
                self._start_gateway(plan)
                self._write_down(plan)
            if self._ray is not None and not self._ray.alive():
                log.warning("the Ray head died; starting it again")
                self._ray.stop()
                self._ray.start()
                self._write_down(plan)
                self._next_boot = 0.0
                self._boot_in_background()
            self._watch_scheduler()
        except RGridError as error:
            log.warning("not yet: %s", error)

    def _watch_scheduler(self) -> None:
        from rgrid.store.engine import make_engine
        from rgrid.store.grid import scheduler_seen

        if time.monotonic() < self._next_boot:
            return
        self._next_boot = time.monotonic() + SCHEDULER_SILENT_SECONDS
        engine = make_engine(self._database_url)
        try:
            seen = scheduler_seen(engine)
        finally:
            engine.dispose()
        if seen.age_seconds is None or seen.age_seconds > SCHEDULER_SILENT_SECONDS:
            log.warning("the scheduler has not been heard for %s s; booting it", seen.age_seconds)
            self._boot_in_background()

    def _boot_in_background(self) -> None:
        if self._booting is None or self._booting.poll() is not None:
            self._booting = self._start_boot()

    # -- down ---------------------------------------------------------------------------------------------------------

    def _take_down(self) -> None:
        """Gateway first, so that nothing new comes; Postgres last, so that the last word is written."""
        if self._booting is not None and self._booting.poll() is None:
            self._booting.kill()
        if self._gateway is not None:
            self._gateway.stop(STOP_SECONDS)
        if self._ray is not None:
            self._ray.stop()
            self._ray.forget()
        if self._postgres is not None:
            self._postgres.stop()
        if (grid := read_grid(self._home)) is not None:
            write_grid(self._home, grid.model_copy(update={"pids": {}}))
        (self._home / PROCESSES_FILE).unlink(missing_ok=True)

    def _end_leftovers(self) -> None:
        """End what a supervisor that was killed left running. Job containers run on and are adopted."""
        left = recorded(self._home / PROCESSES_FILE)
        for name in ("gateway", "ray", "postgres"):  # in the order of taking down
            if name in left:
                log.warning("ending %s (pid %d), which an earlier supervisor left behind", name, left[name])
                end_tree(left[name], STOP_SECONDS)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _write_down(self, plan: Plan) -> None:
        from rgrid.store.engine import make_engine
        from rgrid.store.grid import grid_id

        engine = make_engine(self._database_url)
        name = grid_id(engine)
        engine.dispose()
        found = {
            "supervisor": os.getpid(),
            "postgres": self._postgres.pid if self._postgres else None,
            "ray": self._ray.pid if self._ray else None,
            "gateway": self._gateway.pid if self._gateway else None,
        }
        pids = {part: pid for part, pid in found.items() if pid is not None}
        record(self._home / PROCESSES_FILE, pids)
        write_grid(
            self._home,
            GridFile(
                grid=name,
                version=__version__,
                api_url=self._api_url(plan),
                api_key=plan.api_key,
                database_url=self._database_url,
                ray_address=self._ray_address(),
                ray_token_file=str(self._ray.token_file) if self._ray else "",
                dashboard_url=self._ray.dashboard_url if self._ray else "",
                node=self._node,
                pids=pids,
            ),
        )

    def _ray_address(self) -> str:
        if self._settings.ray_address is not None:
            return self._settings.ray_address
        assert self._ray is not None
        return self._ray.address

    def _api_url(self, plan: Plan) -> str:
        host = "127.0.0.1" if self._settings.host in {"0.0.0.0", "::"} else self._settings.host  # noqa: S104
        return f"http://{host}:{plan.gateway_port}"

    def _step(self, what: str, began: float) -> None:
        self._tell({"step": what, "seconds": round(time.monotonic() - began, 1)})


def _lock(home: Path) -> TextIO:
    file = (home / LOCK_FILE).open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise RGridError(Code.GRID_BUSY, f"a supervisor already looks after {home}") from error
    return file


def is_locked(home: Path) -> bool:
    """Say whether a supervisor looks after this home."""
    try:
        with (home / LOCK_FILE).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310  # our own URL
        return bool(response.status == 200)  # noqa: PLR2004
    return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def main() -> int:
    """Be the supervisor, as `rgrid up` started it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    cpus = os.environ.pop("RGRID_UP_CPUS", "")

    def tell(news: dict[str, object]) -> None:
        with suppress(OSError):  # whoever typed `rgrid up` has gone; the grid has not
            os.write(1, json.dumps(news).encode() + b"\n")
            if "ready" in news:
                os.dup2(2, 1)

    supervisor = Supervisor(settings(), tell, cpus=int(cpus) if cpus else None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.stop())
    try:
        supervisor.run()
    except RGridError as error:
        log.error("%s", error)  # noqa: TRY400  # a known fault needs no stack
        tell({"failed": error.message, "code": error.code, "hint": error.hint})
        return error.exit_code
    except Exception as error:
        log.exception("the supervisor failed")
        tell({"failed": f"{type(error).__name__}: {error}", "code": Code.INTERNAL, "hint": ""})
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
