"""Amounts as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgrid.domain.resources import (
    GIB,
    MIB,
    QuantityError,
    Resources,
    format_cpus,
    format_memory,
    parse_cpus,
    parse_duration,
    parse_memory,
    parse_size,
    write_duration,
    write_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 * MIB),
        ("1.5GiB", GIB * 3 // 2),
        ("2g", 2 * GIB),
        ("800MB", 800_000_000),
        ("64mib", 64 * MIB),
        (" 1 GiB ", GIB),
        ("8388608", 8 * MIB),
    ],
)
def test_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["lots", "", "-1G", "1X", "M", "1..5G", "0", "1M", "nan", "inf", "1e9"])
def test_memory_nobody_understands(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_memory(text)


@pytest.mark.parametrize(("text", "millis"), [("0.5", 500), ("2", 2000), ("500m", 500), (1, 1000), (".25", 250)])
def test_cpus(text: str, millis: int) -> None:
    assert parse_cpus(text) == millis


@pytest.mark.parametrize("text", ["0", "-1", "", "all", "0.001", "1k"])
def test_cpus_nobody_can_have(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_cpus(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("300", 300), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("250ms", 0.25), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["-1", "0", "", "soon", "5x", "1h30", "h", "99999999999"])
def test_durations_nobody_understands(text: str) -> None:
    with pytest.raises(QuantityError):
        parse_duration(text)


@given(st.text(max_size=12))
def test_no_text_breaks_a_parser(text: str) -> None:
    for parse in (parse_memory, parse_cpus, parse_duration):
        try:
            parse(text)
        except QuantityError as error:
            assert repr(text.strip().lower()) in str(error) or repr(text) in str(error)  # noqa: PT017  # it names it


@given(st.lists(st.integers(1, 10**6), min_size=1))
def test_sums_are_exact(millis: list[int]) -> None:
    total = Resources(0, 0)
    for m in millis:
        total += Resources(m, m * MIB)
    for m in millis:
        total -= Resources(m, m * MIB)
    assert total == Resources(0, 0)


def test_written_as_read() -> None:
    assert format_memory(512 * MIB) == "512 MiB"
    assert format_memory(GIB * 3 // 2) == "1.5 GiB"
    assert format_memory(100) == "100 B"
    assert format_cpus(500) == "0.5"


@pytest.mark.parametrize("size", [1, 1000, 1024, 512 * MIB, 3 * 1024**3, 1024**3 + 1])
def test_sizes_can_be_typed_back(size: int) -> None:
    assert parse_size(write_size(size)) == size


@pytest.mark.parametrize("seconds", [0.25, 1, 90, 3600, 86400 * 7 + 61])
def test_durations_can_be_typed_back(seconds: float) -> None:
    assert parse_duration(write_duration(timedelta(seconds=seconds))).total_seconds() == seconds
