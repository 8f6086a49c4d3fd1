"""From rows to what is shown: one place that knows both a table's columns and a view's names."""

from collections.abc import Mapping, Sequence
from typing import Any

from rgrid.store.specs import spec_from_json
from rgrid.wire import AttemptView, EventView, JobView, NodeView, OutputView

Row = Mapping[Any, Any]


def job_view(row: Row, attempts: Sequence[Row] = ()) -> JobView:
    """Show a job."""
    spec = row["spec"]
    return JobView(
        id=row["id"],
        name=row["name"],
        owner=row["owner"],
        state=row["state"],
        reason=row["reason"],
        exit_code=row["exit_code"],
        message=row["message"],
        node=row["node"],
        script=spec["script"],
        args=spec["args"],
        runtime=spec["runtime"],
        image=spec["image"],
        cpu_millis=row["cpu_millis"],
        memory_bytes=row["memory_bytes"],
        timeout_seconds=spec_from_json(spec).timeout.total_seconds(),
        dependencies=spec.get("dependencies"),
        network=spec["network"],
        priority=row["priority"],
        labels=row["labels"],
        submitted_at=row["submitted_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        cancel_requested_at=row["cancel_requested_at"],
        peak_memory_bytes=row["peak_memory_bytes"],
        attempts=[attempt_view(attempt) for attempt in attempts],
    )


def attempt_view(row: Row) -> AttemptView:
    """Show an attempt."""
    return AttemptView.model_validate(dict(row))


def event_view(row: Row) -> EventView:
    """Show an event."""
    return EventView.model_validate(dict(row))


def output_view(row: Row) -> OutputView:
    """Show an output."""
    return OutputView.model_validate(dict(row))


def node_view(row: Row) -> NodeView:
    """Show a node with what runs on it."""
    return NodeView.model_validate(dict(row))
