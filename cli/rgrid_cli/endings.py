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


#: What to do where it does not depend on the script.
_HINTS = {
    EndReason.IMAGE: "Check the image's name and the node's registry; `rgrid runtimes` lists names that are known.",
    EndReason.DEPENDENCIES: "Correct what the script declares, or run it without with `rgrid run --no-deps SCRIPT`.",
    EndReason.INTERNAL: "Look at the log of the node's executor, and report what it says.",
}


def exit_code_of(job: JobView) -> int:
    """Return the script's own exit code, or ours where the script did not come to give one."""
    if job.state is State.SUCCEEDED:
        return 0
    if job.reason in {EndReason.EXIT, EndReason.SIGNAL} and job.exit_code is not None:
        return job.exit_code
    return _OWN.get(job.reason, EXIT_GRID) if job.reason is not None else EXIT_GRID


def explain(job: JobView) -> None:
    """Say in a line why a job ended, unless its script simply did, and in another what to do about it."""
    if job.reason is EndReason.EXIT and job.message not in {"", f"exit code {job.exit_code}"}:
        output.say(f"rgrid: {job.message}")
    elif job.reason not in {None, EndReason.EXIT}:
        assert job.reason is not None
        output.say(f"rgrid: {job.reason}: {job.message or WORDS[job.reason]} (see `rgrid show {job.id}`)")
    if advice := hint_of(job):
        output.say(f"hint: {advice}")


def hint_of(job: JobView) -> str:
    """Return what to do about the end of a job, where something is known."""
    last = job.attempts[-1] if job.attempts else None
    if last is not None and last.proof.get("hint"):
        return str(last.proof["hint"])
    return _HINTS.get(job.reason, "") if job.reason is not None else ""
