"""What to do about a script that failed: learnt from what people meet, read off its last words. Pure.

A hint is a full sentence with what to type, or nothing: a wrong one costs more than none.
"""

import re

from rgrid.domain.job import JobSpec
from rgrid.domain.reasons import EndReason
from rgrid.domain.resources import write_duration, write_size
from rgrid.import_names import distribution

_PYTHON_MODULE = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '([\w.]+)'")
_NODE_MODULE = re.compile(r"Cannot find (?:module|package) '(@?[\w./-]+)'")
_NO_NETWORK = re.compile(
    r"Temporary failure in name resolution|Name or service not known|getaddrinfo|ENOTFOUND|EAI_AGAIN|"
    r"Network is unreachable|ENETUNREACH|NameResolutionError|\[Errno 111\] Connection refused|ECONNREFUSED"
)
_OUTSIDE = re.compile(
    r"(?:Permission denied|Read-only file system): '(/(?!workspace(?:/|'))[^']*)'|EROFS[^']*'(/[^']*)'"
)
_WRONG_PROCESSOR = re.compile(r"exec format error|wrong ELF class|cannot execute binary file", re.IGNORECASE)
_WRONG_PYTHON = re.compile(r"undefined symbol: _?Py|compiled for Python|requires a different Python|bad magic number")
_TMP_FULL = re.compile(r"No space left on device|ENOSPC")


def hint(spec: JobSpec, reason: EndReason, exit_code: int | None, stderr: str) -> str:
    """Return what to do about the end of a script, or nothing; `stderr` is the last of what it wrote there."""
    match reason:
        case EndReason.OOM:
            return f"Give it more memory with `rgrid run --memory {write_size(spec.resources.memory_bytes * 2)}`."
        case EndReason.TIMEOUT:
            return f"Give it more time with `rgrid run --timeout {write_duration(spec.timeout * 4)}`."
        case EndReason.DISK:
            return f"Give it more disk space with `rgrid run --disk {write_size(spec.disk_bytes * 2)}`."
        case EndReason.EXIT | EndReason.SIGNAL if exit_code != 0:
            return _from_words(spec, stderr)
        case _:
            return ""


def _from_words(spec: JobSpec, stderr: str) -> str:
    if (found := _last(_PYTHON_MODULE, stderr)) is not None:
        return _missing(found)
    if (found := _last(_NODE_MODULE, stderr)) is not None and not found.startswith((".", "/")):
        return f"Add {found!r} to the dependencies in package.json beside the script."
    if not spec.network and _NO_NETWORK.search(stderr):
        return "A job has no network unless it asks: try `rgrid run --network`."
    if (found := _last(_OUTSIDE, stderr)) is not None:
        return f"A job may write in its working directory (/workspace) and in /tmp, not at {found}."
    if _WRONG_PROCESSOR.search(stderr):
        return "A program that goes along was built for another processor; build it for the nodes' own."
    if _WRONG_PYTHON.search(stderr):
        return "Something was built for another Python; say which with `rgrid run --runtime`."
    if _TMP_FULL.search(stderr):
        return "The folder for what is temporary is small and counts as memory: write to the working directory instead."
    return ""


def _missing(module: str) -> str:
    known = distribution(module)
    what = f"the distribution that {module!r} is in" if known is None else known
    return f"Declare {what} in a PEP 723 block in the script, or in requirements.txt beside it."


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = list(pattern.finditer(text))
    return next((group for group in found[-1].groups() if group), None) if found else None
