"""Which distribution a module comes in: `cv2` in `opencv-python-headless`. Only well-known names; nothing is guessed.

The data is `import_names.txt`, made by `scripts/import-names` from what others keep.
"""

from functools import cache
from importlib.resources import files


def distribution(module: str) -> str | None:
    """Return the distribution that `module` (dotted or not) is imported from, or None where it is not well known.

    >>> distribution("google.cloud.storage")
    'google-cloud-storage'
    """
    known = _known()
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((known[name] for name in names if name in known), None)


@cache
def _known() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in files("rgrid").joinpath("import_names.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            module, _, name = line.partition(" ")
            found[module] = name or module
    return found
