"""What every attempt of a node works with: the outside things, the ids jobs run as, threads, and what they share."""

from dataclasses import dataclass, field

from rgrid.store.ports import BlobStore, LogStore
from rgrid_actors.artifacts import Ids
from rgrid_actors.containers.port import Containers
from rgrid_actors.environments.environments import Environments
from rgrid_actors.flights import Flights
from rgrid_actors.in_thread import InThread
from rgrid_actors.reporter import Reporter


@dataclass(frozen=True, slots=True)
class Bench:
    """What every attempt of a node works with."""

    containers: Containers
    blobs: BlobStore
    logs: LogStore
    reporter: Reporter
    ids: Ids
    in_thread: InThread
    environments: Environments
    #: Images that are pulled now, each once however many attempts wait for it.
    pulls: Flights[str] = field(default_factory=Flights)
