"""`JobSpec` as it is kept in the jobs table: JSON without the inputs, which have rows of their own.

Durations are kept as seconds, so that SQL and people can read them.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from rgrid.domain.job import InputFile, JobSpec

_SPEC = TypeAdapter(JobSpec)


def spec_to_json(spec: JobSpec) -> dict[str, Any]:
    """Return a spec as plain JSON values."""
    found: dict[str, Any] = _SPEC.dump_python(replace(spec, inputs=()), mode="json")
    del found["inputs"]
    durations = {name: value for name in found if isinstance(value := getattr(spec, name), timedelta)}
    return found | {name: value.total_seconds() for name, value in durations.items()}


def spec_from_json(value: dict[str, Any], inputs: Sequence[InputFile] = ()) -> JobSpec:
    """Return the spec that was kept, with its inputs."""
    return replace(_SPEC.validate_python(value), inputs=tuple(inputs))
