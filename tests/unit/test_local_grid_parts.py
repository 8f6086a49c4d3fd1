"""What a local grid decides without any process: records, names, versions."""

from pathlib import Path

import pytest

from rgrid_cli.doctor import _fits
from rgrid_cli.local.processes import last_words, recorded
from rgrid_cli.local.ray_head import RayHead


@pytest.mark.parametrize("text", ["", "{", '{"gateway": 5}', '{"gateway": [1]}', "[]"])
def test_a_damaged_record_names_nobody(tmp_path: Path, text: str) -> None:
    path = tmp_path / "processes.json"
    path.write_text(text)
    assert recorded(path) == {}


def test_last_words_are_plain(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == "it said nothing"
    log.write_text("first\n\x1b[31mit broke\x1b[0m\n\nhint: do this\n")
    assert last_words(log) == "it broke"


@pytest.mark.parametrize("home", ["/tmp/h", "/home/somebody/with-a-long-name/and a folder/" + "x" * 80])
def test_rays_sockets_have_short_names(home: str) -> None:
    head = RayHead(Path(home), node="n", port=1, dashboard_port=2, cpus=None)
    socket_name = head.folder / "session_2026-11-24_11-37-29_755857_4194304" / "sockets" / "plasma_store"
    assert len(str(socket_name)) <= 107


@pytest.mark.parametrize(
    ("version", "wanted", "fits"),
    [("2.60.0", "<2.61,>=2.60", True), ("2.61.0", "<2.61,>=2.60", False), ("2.59.1", "<2.61,>=2.60", False)],
)
def test_versions_of_ray(version: str, wanted: str, fits: bool) -> None:
    assert _fits(version, wanted) is fits
