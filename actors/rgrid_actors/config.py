"""What actors are told when they are made. Passed as arguments: their processes do not share our environment."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rgrid.domain.ids import GridId
from rgrid.domain.resources import GIB

#: Ray namespace and names under which everyone finds the actors.
NAMESPACE = "rgrid"
SCHEDULER = "scheduler"
#: Label of a Ray node that carries its name in the grid.
NODE_LABEL = "rgrid/node"


@dataclass(frozen=True, slots=True)
class GridConfig:
    """One grid, as its actors need to know it."""

    grid: GridId
    version: str
    #: Where nodes keep their part of the grid: spools and workspaces.
    home: Path
    database_url: str
    node_lost_after: timedelta
    rejoin_grace: timedelta
    poll_interval: timedelta
    docker_host: str | None = None
    docker_runtime: str | None = None
    log_level: str = "INFO"
    build_memory: int = 4 * GIB
    build_disk: int = 10 * GIB
    builder_images: str = "rgrid-builder/{image}"
    ca_bundle: Path | None = None
    uv_config: Path | None = None
    keep_jobs: timedelta = timedelta(days=30)
    cache_high: int = 20 * GIB
    cache_low: int = 15 * GIB
    min_free: int = 1 * GIB
