"""The parts of the Docker adapter that decide without an engine: the sandbox, log frames, cgroup paths."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from rgrid.domain.ids import GridId, JobId, Lease, NodeName, Owner
from rgrid.domain.job import AttemptOrder, AttemptRef, JobSpec
from rgrid_actors.containers import cgroup, spec
from rgrid_actors.containers.logs import entries, frames, since
from rgrid_actors.containers.port import LogEntry

REF = AttemptRef(JobId("j1"), 2, Lease("3.4"))
ORDER = AttemptOrder(REF, Owner("me"), "job", JobSpec(("python", "s.py"), "python:3.11", env={"A": "1", "HOME": "/x"}))
PLACE = spec.Place(GridId("g"), NodeName("n"), Path("/spool/ws"), 65534, 65534)


def test_the_sandbox() -> None:
    host = spec.host_config(ORDER, PLACE)
    assert host["mem_limit"] == host["memswap_limit"] == 512 * 1024**2
    assert host["nano_cpus"] == 10**9
    assert host["pids_limit"] == 256
    assert host["cap_drop"] == ["ALL"]
    assert host["security_opt"] == ["no-new-privileges"]
    assert host["read_only"] is True
    assert host["network_mode"] == "none"
    assert host["binds"] == {"/spool/ws": {"bind": "/workspace", "mode": "rw"}}
    made = spec.create_arguments(ORDER, PLACE, "sha256:x")
    assert made["user"] == "65534:65534"
    assert made["stdin_open"] is False
    assert made["entrypoint"] == []


def test_the_user_may_set_anything_but_who_the_job_is() -> None:
    order = replace(ORDER, spec=replace(ORDER.spec, env={"HOME": "/x", "RGRID_JOB_ID": "fake"}))
    found = spec.environment(order, PLACE)
    assert found["HOME"] == "/x"
    assert found["RGRID_JOB_ID"] == "j1"


def test_a_container_is_known_by_name_and_labels() -> None:
    assert spec.container_name(GridId("g"), REF) == "rgrid-g-j1-2-3.4"
    assert spec.labels(GridId("g"), NodeName("n"), REF)["rgrid.lease"] == "3.4"


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8),
    st.lists(st.integers(1, 7), min_size=1, max_size=50),
)
def test_frames_survive_any_cutting(parts: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = b"".join(frame(stream, payload) for stream, payload in parts)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(data[at : at + cut])
        at += cut
    pieces.append(data[at:])
    names = {1: "stdout", 2: "stderr"}
    assert list(frames(pieces)) == [(names[stream], payload) for stream, payload in parts]


def test_reading_goes_on_exactly_behind_a_cursor() -> None:
    times = ["2026-01-01T00:00:00.1Z", "2026-01-01T00:00:00.2Z", "2026-01-01T00:00:00.2Z", "2026-01-01T00:00:00.3Z"]
    data = b"".join(frame(1, f"{time} line {i}\n".encode()) for i, time in enumerate(times))
    everything = list(entries([data], ""))
    for i, entry in enumerate(everything):
        assert list(entries([data], entry.cursor)) == everything[i + 1 :]
    assert everything[2].cursor.endswith("#2")
    assert everything[0].data == b"line 0\n"


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(0, 3)), max_size=12), st.data())
def test_an_older_line_of_one_stream_may_stand_behind_younger_ones_of_the_other(
    lines: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Each stream's own times grow, and nothing more is known. The engine leaves out what is older than asked for."""
    clock, log = {1: 0, 2: 0}, []
    for i, (stream, step) in enumerate(lines):
        clock[stream] += step
        log.append((f"2026-01-01T00:00:00.{clock[stream]:09}Z", stream, f"line {i}\n".encode()))

    def read(cursor: str) -> list[LogEntry]:
        asked = since(cursor)
        least = "" if asked == "0" else f"2026-01-01T00:00:00.{asked.partition('.')[2]}Z"
        return list(entries([frame(s, f"{t} ".encode() + line) for t, s, line in log if t >= least], cursor))

    everything = read("")
    assert [entry.data for entry in everything] == [line for _, _, line in log]
    if everything:
        at = data.draw(st.integers(0, len(everything) - 1))
        assert read(everything[at].cursor) == everything[at + 1 :]


def test_since_is_what_the_engine_wants() -> None:
    assert since("") == "0"
    assert since("1=2026-01-01T00:00:00.123456789Z#3") == "0", "of the other stream nothing was seen"
    both = "1=2026-01-01T00:00:00.123456789Z#3,2=2026-01-01T00:00:01.000000000Z#1"
    assert since(both) == "1767225600.123456789"


def test_cgroup_version_1(tmp_path: Path) -> None:
    text = "11:memory:/docker/abc\n5:cpuacct:/docker/abc\n4:cpu:/docker/abc\n0::/system\n"
    files = cgroup.find(text, tmp_path)
    assert files is not None
    assert not files.v2
    files.peak.parent.mkdir(parents=True)
    files.cpu.parent.mkdir(parents=True)
    files.peak.write_text("4096\n")
    files.oom.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    files.cpu.write_text("1500000000\n")
    assert cgroup.read(files) == cgroup.Usage(4096, 1.5, 2)


def test_cgroup_version_2(tmp_path: Path) -> None:
    files = cgroup.find("0::/system.slice/docker-abc.scope\n", tmp_path)
    assert files is not None
    assert files.v2
    assert cgroup.read(files) is None, "gone with the container"
    files.peak.parent.mkdir(parents=True)
    files.oom.write_text("low 0\noom 1\noom_kill 1\n")
    files.cpu.write_text("usage_usec 2500000\nuser_usec 1\n")
    assert cgroup.read(files) == cgroup.Usage(None, 2.5, 1), "memory.peak came with Linux 5.19"
