"""What a running grid wrote down about itself in its home: id, ports, addresses, pids. One grid per home.

Written by `rgrid up`, read by every command on the machine; readable by its owner only, because it names secrets.
"""

import json
import os
import tempfile
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from rgrid.errors import Code, RGridError

GRID_FILE = "grid.json"


class GridFile(BaseModel):
    """A local grid as its supervisor knows it."""

    model_config = ConfigDict(extra="ignore")

    grid: str
    version: str
    api_url: str = ""
    api_key: str = ""
    database_url: str = ""
    ray_address: str = ""
    ray_token_file: str = ""
    dashboard_url: str = ""
    node: str = ""
    #: Process ids by part: supervisor, postgres, ray, gateway.
    pids: dict[str, int] = {}


def read_grid(home: Path) -> GridFile | None:
    """Return what the grid of `home` wrote down, or None when there never was one."""
    path = home / GRID_FILE
    try:
        return GridFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise RGridError(
            Code.GRID_NOT_CONFIGURED,
            f"{path} cannot be read: {error}",
            hint="Remove the file, then type `rgrid up`.",
        ) from error


def write_grid(home: Path, grid: GridFile) -> None:
    """Replace the grid's file whole, so that no reader ever sees half of it."""
    write_private(home / GRID_FILE, json.dumps(grid.model_dump(), indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, by renaming it into place."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
