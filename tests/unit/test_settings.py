"""Settings: read, validated and told of by name."""

from pathlib import Path

import pytest

from rgrid.errors import Code, RGridError
from rgrid.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("RGRID_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RGRID_HOME", str(tmp_path))


def test_every_setting_says_what_it_means() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('api_url = "http://file:1"\nmax_memory = "1G"\n')
    assert load_settings().api_url == "http://file:1"
    assert load_settings().max_memory == 1024**3
    monkeypatch.setenv("RGRID_API_URL", "http://environment:1")
    assert load_settings().api_url == "http://environment:1"


def test_cpus_are_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().max_cpus == 64_000
    monkeypatch.setenv("RGRID_MAX_CPUS", "1.5")
    assert load_settings().max_cpus == 1500


@pytest.mark.parametrize(
    ("name", "value"),
    [("RGRID_MAX_MEMORY", "lots"), ("RGRID_PORT", "99999"), ("RGRID_NODE_LOST_AFTER", "soon"), ("RGRID_MAX_CPUS", "0")],
)
def test_a_bad_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(RGridError) as caught:
        load_settings()
    assert caught.value.code is Code.SETTING_INVALID
    assert name in caught.value.message


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("what = = ever")
    with pytest.raises(RGridError) as caught:
        load_settings()
    assert "config.toml" in caught.value.message


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RGRID_API_KEY", "rg_secret")
    assert "rg_secret" not in repr(load_settings())
