"""Where the grid is that a command means: what was set wins, else the local grid's own word."""

from rgrid.errors import Code, RGridError
from rgrid.home import read_grid
from rgrid.settings import Settings, settings


def database_url(chosen: Settings | None = None) -> str:
    """Return the URL of the grid's Postgres; raise `grid-not-configured` where none is known."""
    chosen = chosen or settings()
    if chosen.database_url is not None:
        return chosen.database_url.get_secret_value()
    grid = read_grid(chosen.home)
    if grid is not None and grid.database_url:
        return grid.database_url
    raise RGridError(
        Code.GRID_NOT_CONFIGURED,
        f"no database is set, and there is no local grid in {chosen.home}",
        hint="Set RGRID_DATABASE_URL, or start a grid on this machine with `rgrid up`.",
    )


def gateway(chosen: Settings | None = None) -> tuple[str, str] | None:
    """Return the gateway's URL and the key to use with it, or None where no grid is known."""
    chosen = chosen or settings()
    grid = read_grid(chosen.home)
    url = chosen.api_url or (grid.api_url if grid else "")
    if not url:
        return None
    if chosen.api_key is not None:
        return url, chosen.api_key.get_secret_value()
    # The local grid's key is for the local grid only: never send it to another gateway.
    return url, grid.api_key if grid is not None and url == grid.api_url else ""
