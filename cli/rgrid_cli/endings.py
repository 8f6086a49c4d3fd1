"""What the end of a job means to the command line: an exit code, and words for every end that is not plain."""

from rgrid.domain.lifecycle import State
from rgrid.domain.reasons import WORDS, EndReason
from rgrid.errors import EXIT_CANCELLED, EXIT_GRID, EXIT_OOM, EXIT_TIMEOUT
from rgrid.wire import JobView
from rgrid_cli import output

_OWN = {
    EndReason.TIMEOUT: EXIT_TIMEOUT,
    EndReason.OOM: EXIT_OOM,
    EndReason.CANCELLED: EXIT_CANCELLED,
}


def exit_code_of(job: JobView) -> int:
    """Return the script's own exit code, or ours where the script did not come to give one."""
    if job.state is State.SUCCEEDED:
        return 0
    if job.reason in {EndReason.EXIT, EndReason.SIGNAL} and job.exit_code is not None:
        return job.exit_code
    return _OWN.get(job.reason, EXIT_GRID) if job.reason is not None else EXIT_GRID


def explain(job: JobView) -> None:
    """Say in a line why a job ended, unless its script simply did."""
    if job.reason is EndReason.EXIT and job.message not in {"", f"exit code {job.exit_code}"}:
        output.say(f"rgrid: {job.message}")
    if job.reason is None or job.reason is EndReason.EXIT:
        return
    output.say(f"rgrid: {job.reason}: {job.message or WORDS[job.reason]} (see `rgrid show {job.id}`)")
