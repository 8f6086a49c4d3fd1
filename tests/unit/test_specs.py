"""A spec comes back from JSON as it went in."""

import json
from dataclasses import fields
from datetime import timedelta

from rgrid.domain.dependencies import Dependencies
from rgrid.domain.ids import Digest
from rgrid.domain.job import InputFile, JobSpec
from rgrid.domain.resources import Resources
from rgrid.store.specs import spec_from_json, spec_to_json

INPUTS = (InputFile("s.py", Digest("0" * 64), 5, executable=True),)
SPEC = JobSpec(
    command=("python", "s.py", "-é"),
    image="python:3.12",
    runtime="python3.12",
    script="s.py",
    args=("-é",),
    env={"A": "1"},
    inputs=INPUTS,
    dependencies=Dependencies("python", "PEP 723 block", ("numpy",), ("a<1",), ("https://i",), "uv.lock", ("p.toml",)),
    resources=Resources(500, 2**30),
    timeout=timedelta(seconds=1.5),
    prepare_timeout=timedelta(minutes=2),
    grace=timedelta(seconds=1),
    network=True,
    pids_limit=10,
    disk_bytes=11,
    log_bytes=12,
    max_retries=13,
)


def test_a_spec_survives_json() -> None:
    defaults = JobSpec((), "")
    assert all(getattr(SPEC, field.name) != getattr(defaults, field.name) for field in fields(JobSpec))
    assert spec_from_json(json.loads(json.dumps(spec_to_json(SPEC))), INPUTS) == SPEC


def test_durations_are_seconds_and_inputs_are_elsewhere() -> None:
    found = spec_to_json(SPEC)
    assert (found["timeout"], found["prepare_timeout"], found["grace"]) == (1.5, 120.0, 1.0)
    assert "inputs" not in found
    assert spec_from_json(found).inputs == ()


def test_a_field_that_an_older_version_did_not_have_gets_its_default() -> None:
    found = spec_to_json(SPEC)
    del found["max_retries"]
    assert spec_from_json(found).max_retries == 0
