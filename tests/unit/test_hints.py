"""Hints: for what people meet, and for nothing else."""

from datetime import timedelta

import pytest

from rgrid.domain.job import JobSpec
from rgrid.domain.reasons import EndReason
from rgrid.domain.resources import GIB
from rgrid_actors.hints import hint

SPEC = JobSpec(("python", "s.py"), "python:3.11", timeout=timedelta(seconds=300), disk_bytes=2 * GIB)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (EndReason.OOM, "--memory 1GiB"),
        (EndReason.TIMEOUT, "--timeout 20m"),
        (EndReason.DISK, "--disk 4GiB"),
        (EndReason.CANCELLED, None),
        (EndReason.NODE_LOST, None),
    ],
)
def test_a_limit_names_what_to_try(reason: EndReason, words: str | None) -> None:
    found = hint(SPEC, reason, 137, "")
    assert (words in found) if words else (found == "")


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("ModuleNotFoundError: No module named 'cv2'", "Declare opencv-python-headless"),
        ("ModuleNotFoundError: No module named 'nobody_knows'", "the distribution that 'nobody_knows' is in"),
        ("Error: Cannot find module 'left-pad'", "Add 'left-pad' to the dependencies in package.json"),
        ("Error: Cannot find module './mine'", None),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "--network"),
        ("OSError: [Errno 101] Network is unreachable", "--network"),
        ("PermissionError: [Errno 13] Permission denied: '/etc/x'", "not at /etc/x"),
        ("OSError: [Errno 30] Read-only file system: '/data/out.csv'", "not at /data/out.csv"),
        ("PermissionError: [Errno 13] Permission denied: '/workspace/x'", None),
        ("OSError: [Errno 8] Exec format error: './tool'", "another processor"),
        ("ImportError: x.so: undefined symbol: _PyGen_Send", "another Python"),
        ("OSError: [Errno 28] No space left on device", "counts as memory"),
        ("ValueError: 3", None),
    ],
)
def test_last_words_lead_to_advice(stderr: str, words: str | None) -> None:
    found = hint(SPEC, EndReason.EXIT, 1, f"Traceback …\n{stderr}\n")
    assert (words in found) if words else (found == "")
    assert hint(SPEC, EndReason.EXIT, 0, stderr) == ""
