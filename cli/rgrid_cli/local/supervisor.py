"""The one long-lived parent of a local grid: brings its parts up, watches over them, takes them down in order.

It is the only one that starts and ends them, it holds the home's lock while it lives, and it writes down whom it
started; so whoever comes after a crash of its own ends exactly those, and job containers are left to be adopted.

Told by lines of JSON on stdout how it comes along (`{"step": ...}`, then `{"ready": true}` or `{"failed": ...}`).
"""

import getpass
import json
import logging
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Literal

from rgrid import __version__
from rgrid.errors import Code, RGridError
from rgrid.home import GridFile, read_grid, write_grid
from rgrid.settings import Settings, settings
from rgrid_cli.local.booting import Booting
from rgrid_cli.local.gateway import STOP_SECONDS, GatewayProcess
from rgrid_cli.local.lock import PROCESSES_FILE, take_lock
from rgrid_cli.local.plan import Plan, host_name, make_plan
from rgrid_cli.local.postgres import EmbeddedPostgres
from rgrid_cli.local.processes import end_recorded, record
from rgrid_cli.local.ray_head import RayHead, forget

log = logging.getLogger("rgrid.supervisor")

BOOT_SECONDS = 120.0
WATCH_SECONDS = 0.5
#: A scheduler that has not been heard for so long is booted again; Ray restarts one that died within a second or two.
SCHEDULER_SILENT_SECONDS = 15.0
#: So many boots in a row may fail before a Ray head of ours is taken to remember nonsense, and begins afresh.
FAILED_BOOTS = 2
#: A part that keeps dying is started again at once, then after 1, 3, 7 … seconds, counted over so long a time.
DEATHS_COUNT_SECONDS = 120.0
LONGEST_PAUSE_SECONDS = 30.0
#: What a shell may hold for another Ray (`rgrid env` of another grid, say). Each of these would win over our own.
_FOREIGN_RAY = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
Tell = Callable[[dict[str, object]], None]


class _StopAskedError(Exception):
    """Somebody asked for the end while the grid was coming up."""


class Supervisor:
    """A local grid's parts and their order."""

    def __init__(self, chosen: Settings, tell: Tell, *, cpus: int | None = None) -> None:
        """Take the settings and somebody to tell; `run` does everything."""
        self._settings, self._home, self._tell, self._cpus = chosen, chosen.home, tell, cpus
        self._stopping = threading.Event()
        self._postgres: EmbeddedPostgres | None = None
        self._ray: RayHead | None = None
        self._gateway: GatewayProcess | None = None
        self._database_url = ""
        self._booting: Booting | None = None
        self._failed_boots = 0
        self._next_look = 0.0
        self._deaths: dict[str, list[float]] = defaultdict(list)
        self._recording = threading.Lock()

    def run(self) -> None:
        """Bring the grid up, keep it up until asked to stop, take it down."""
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = take_lock(self._home)
        try:
            self._clear_up()
            try:
                self._bring_up()
                self._tell({"ready": True})
                while not self._stopping.wait(WATCH_SECONDS):
                    self._watch()
            except _StopAskedError:
                self._tell({"failed": "it was taken down while it came up", "code": Code.GRID_START_FAILED, "hint": ""})
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
            forget(self._home)  # Ray's actors know the old ports
        if self._settings.ray_address is None:
            for name in _FOREIGN_RAY:
                os.environ.pop(name, None)
            self._ray = RayHead(
                self._home, node=self._node, port=plan.ray_port, dashboard_port=plan.dashboard_port, cpus=self._cpus
            )
        with ThreadPoolExecutor(1) as pool:
            ray = pool.submit(self._start_ray)
            try:
                self._start_postgres(plan)
                self._start_gateway("ready")
            except BaseException:
                if self._ray is not None:
                    self._ray.stop()  # it is not waited for: what failed is to be told now
                with suppress(RGridError):
                    ray.result()
                raise
            ray.result()
        began = time.monotonic()
        self._boot()
        self._step("scheduler and executor", began)
        self._write_down()

    def _start_postgres(self, plan: Plan) -> None:
        from rgrid.store.engine import make_engine
        from rgrid.store.grid import grid_id
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
        if not PostgresKeys(engine).ensure(plan.api_key, _user(), "admin", "local grid"):
            # Somebody revoked it, for a reason; whoever has this home may have another.
            plan.renew_key(self._home)
            PostgresKeys(engine).ensure(plan.api_key, _user(), "admin", "local grid")
        self._grid = grid_id(engine)
        engine.dispose()
        self._record()
        self._step("Postgres" if self._postgres else "Postgres (yours)", began)

    def _start_ray(self) -> None:
        if self._ray is None:
            return
        began = time.monotonic()
        self._ray.start()
        self._record()
        self._ray.await_started()
        self._step("Ray", began)

    def _start_gateway(self, until: Literal["live", "ready"]) -> None:
        began = time.monotonic()
        self._gateway = GatewayProcess(
            self._home, host=self._settings.host, port=self._plan.gateway_port, database_url=self._database_url
        )
        self._gateway.start()
        self._record()
        self._gateway.await_health(until, self._go_on)
        self._step("gateway", began)

    def _boot(self) -> None:
        """See that scheduler and executors are there; a head that came back with stale memory gets one fresh start."""
        for fresh in (False, True):
            booting = self._booting = self._start_boot()
            deadline = time.monotonic() + BOOT_SECONDS
            while (code := booting.wait(0.1)) is None and time.monotonic() < deadline:
                self._go_on()
            if code == 0:
                return
            booting.kill()
            error = booting.error()
            if fresh or self._ray is None or error.code in {Code.RAY_VERSION, Code.SCHEMA_UNKNOWN}:
                raise error  # which no other start would mend
            self._start_ray_afresh()

    def _start_boot(self) -> Booting:
        environment = {"RGRID_DATABASE_URL": self._database_url} | (self._ray.environment() if self._ray else {})
        return Booting(self._home, ray_address=self._ray_address(), environment=environment)

    def _start_ray_afresh(self) -> None:
        assert self._ray is not None
        log.warning("the actors did not come up; starting Ray with an empty memory")
        self._ray.stop()
        self._ray.forget()
        self._start_ray()

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise _StopAskedError

    # -- watching -----------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """See that everything lives; what died is started again, and a boot puts the actors back."""
        try:
            if self._postgres is not None and self._postgres.pid is None and self._may_start("Postgres"):
                self._postgres.start()
                self._write_down()
            if self._gateway is not None and not self._gateway.alive() and self._may_start("the gateway"):
                self._start_gateway("live")
                self._write_down()
            if self._ray is not None and not self._ray.alive() and self._may_start("the Ray head"):
                self._ray.stop()
                self._start_ray()
                self._write_down()
                self._boot_in_background()
            self._watch_scheduler()
        except RGridError as error:
            log.warning("not yet: %s", error)
        except _StopAskedError:
            raise
        except Exception:  # a full disk, say: no reason to leave the grid without anybody who looks after it
            log.exception("a look at the grid's parts failed; it is taken again")

    def _may_start(self, part: str) -> bool:
        """Say whether a part that is not there may be started now, or has died too often just before."""
        now = time.monotonic()
        recent = self._deaths[part] = [at for at in self._deaths[part] if now - at < DEATHS_COUNT_SECONDS]
        pause = min(2 ** len(recent) - 1, LONGEST_PAUSE_SECONDS)
        if recent and now - recent[-1] < pause:
            return False
        recent.append(now)
        log.warning("%s died; starting it again", part)
        return True

    def _watch_scheduler(self) -> None:
        from rgrid.store.engine import make_engine
        from rgrid.store.grid import scheduler_seen

        if self._booting is not None and (code := self._booting.ended()) is not None:
            self._failed_boots = self._failed_boots + 1 if code else 0
            self._booting = None
            self._next_look = time.monotonic() + SCHEDULER_SILENT_SECONDS
            if self._failed_boots >= FAILED_BOOTS and self._ray is not None:
                self._failed_boots = 0
                self._start_ray_afresh()
                self._write_down()
                self._boot_in_background()
        if self._booting is not None or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + SCHEDULER_SILENT_SECONDS
        engine = make_engine(self._database_url)
        try:
            seen = scheduler_seen(engine)
        finally:
            engine.dispose()
        if seen.age_seconds is None or seen.age_seconds > SCHEDULER_SILENT_SECONDS:
            log.warning("the scheduler has not been heard for %s s; booting it", seen.age_seconds)
            self._boot_in_background()

    def _boot_in_background(self) -> None:
        if self._booting is None or self._booting.ended() is not None:
            self._booting = self._start_boot()
            self._record()

    # -- down ---------------------------------------------------------------------------------------------------------

    def _take_down(self) -> None:
        """Gateway first, so that nothing new comes; Postgres last, so that the last word is written."""
        gateway, ray, postgres, booting = self._gateway, self._ray, self._postgres, self._booting
        steps: list[Callable[[], object]] = [
            self._write_nobody,  # so a command that looks now waits for the end, and takes this grid for no live one
            *([booting.kill] if booting is not None and booting.ended() is None else []),
            *([lambda: gateway.stop(STOP_SECONDS)] if gateway is not None else []),
            *([ray.stop, ray.forget] if ray is not None else []),
            *([postgres.stop] if postgres is not None else []),
            lambda: (self._home / PROCESSES_FILE).unlink(missing_ok=True),
        ]
        for step in steps:
            try:
                step()
            except Exception:  # whatever one step meets, the next parts are not left running
                log.exception("a part was not taken down as it should be")

    def _clear_up(self) -> None:
        """End what a supervisor that was killed left running. Job containers run on and are adopted."""
        ended = end_recorded(self._home / PROCESSES_FILE, STOP_SECONDS)
        if ended:
            log.warning("an earlier supervisor was killed; ended what it left behind: %s", ", ".join(ended))
        self._write_nobody()
        self._record()

    # -- parts --------------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        """Write down whom we started, at once: a supervisor may be killed at any moment."""
        with self._recording:
            record(self._home / PROCESSES_FILE, self._pids())

    def _pids(self) -> dict[str, int]:
        found = {
            "supervisor": os.getpid(),
            "postgres": self._postgres.pid if self._postgres else None,
            "ray": self._ray.pid if self._ray else None,
            "gateway": self._gateway.pid if self._gateway else None,
            "boot": self._booting.pid if self._booting else None,
        }
        return {part: pid for part, pid in found.items() if pid is not None}

    def _write_down(self) -> None:
        """Write where everything is, for every command on this machine. Pids are in it while the grid is up."""
        self._record()
        pids = self._pids()
        pids.pop("boot", None)
        write_grid(
            self._home,
            GridFile(
                grid=self._grid,
                version=__version__,
                api_url=self._gateway.url if self._gateway else "",
                api_key=self._plan.api_key,
                database_url=self._database_url,
                ray_address=self._ray_address(),
                ray_token_file=str(self._ray.token_file) if self._ray else os.environ.get("RAY_AUTH_TOKEN_PATH", ""),
                dashboard_url=self._ray.dashboard_url if self._ray else "",
                node=self._node,
                pids=pids,
            ),
        )

    def _write_nobody(self) -> None:
        if (grid := read_grid(self._home)) is not None:
            write_grid(self._home, grid.model_copy(update={"pids": {}}))

    def _ray_address(self) -> str:
        if self._settings.ray_address is not None:
            return self._settings.ray_address
        assert self._ray is not None
        return self._ray.address

    def _step(self, what: str, began: float) -> None:
        self._tell({"step": what, "seconds": round(time.monotonic() - began, 1)})


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def supervise(tell: Tell) -> None:
    """Be the supervisor of this process's home until a signal says otherwise."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    cpus = os.environ.pop("RGRID_UP_CPUS", "")
    supervisor = Supervisor(settings(), tell, cpus=int(cpus) if cpus else None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()


def main() -> int:
    """Be the supervisor, as `rgrid up` started it."""

    def tell(news: dict[str, object]) -> None:
        with suppress(OSError):  # whoever typed `rgrid up` has gone; the grid has not
            os.write(1, json.dumps(news).encode() + b"\n")
            if "ready" in news:
                os.dup2(2, 1)

    try:
        supervise(tell)
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
