"""What a home keeps from one start to the next: ports and secrets do not change under a grid's clients and actors."""

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from rgrid.home import write_private
from rgrid.settings import Settings
from rgrid_cli.local import ports

PLAN_FILE = "local.json"


@dataclass(slots=True)
class Plan:
    """Ports and secrets of a local grid."""

    postgres_port: int
    postgres_password: str
    api_key: str
    ray_port: int
    dashboard_port: int
    gateway_port: int

    def still_good(self, chosen: Settings) -> bool:
        """Say whether all ports are free, and the one that was asked for is among them."""
        if chosen.port and self.gateway_port != chosen.port:
            return False
        mine = (self.postgres_port, self.ray_port, self.dashboard_port)
        return ports.is_free(self.gateway_port, chosen.host) and all(map(ports.is_free, mine))

    def renew_key(self, home: Path) -> None:
        """Take another key, and keep it."""
        self.api_key = _new_key()
        write_private(home / PLAN_FILE, json.dumps(asdict(self)))


def _new_key() -> str:
    return f"rg_{secrets.token_urlsafe(32)}"


def make_plan(chosen: Settings) -> tuple[Plan, bool]:
    """Return the home's plan, and whether it is as it was; ports somebody took meanwhile are found anew.

    Secrets always stay: the database was made with them.
    """
    path = chosen.home / PLAN_FILE
    old = _read(path)
    if old is not None and old.still_good(chosen):
        return old, True
    if chosen.port:
        ports.demand(chosen.port, chosen.host)
    postgres, ray, dashboard, gateway = ports.free_ports(4)
    plan = Plan(
        postgres_port=postgres,
        postgres_password=old.postgres_password if old else secrets.token_urlsafe(24),
        api_key=old.api_key if old else _new_key(),
        ray_port=ray,
        dashboard_port=dashboard,
        gateway_port=chosen.port or gateway,
    )
    write_private(path, json.dumps(asdict(plan)))
    return plan, False


def _read(path: Path) -> Plan | None:
    with suppress(OSError, ValueError, KeyError):
        kept = json.loads(path.read_text())
        return Plan(**{field.name: kept[field.name] for field in fields(Plan)})
    return None


def host_name() -> str:
    """Return this machine's name as a Ray label may hold it."""
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in os.uname().nodename).strip("-_.")
    return name[:60] or "local"
