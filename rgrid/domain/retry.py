"""Whether an ended attempt is followed by another. Losses of the grid's own never use up the user's retries."""

from rgrid.domain.reasons import RETRY_OF, EndReason, Retry

#: How often RGrid's own faults (`internal`) and losses may repeat before a job is given up: a poisonous job must not
#: take node after node down with it.
MAX_FREE_RETRIES = 8
#: A fault of our own that came twice will come again.
MAX_INTERNAL_RETRIES = 2


def is_retried(
    reason: EndReason, *, exit_code: int | None, charged: int, free: int, max_retries: int, internal: int = 0
) -> bool:
    """Say whether a job is tried again.

    `charged` and `free` count its *earlier* endings of each kind, `internal` those of the free ones that were RGrid's
    own faults; `max_retries` is what the submission allows.
    """
    match RETRY_OF[reason]:
        case Retry.NEVER:
            return False
        case Retry.FREE:
            ours = reason is EndReason.INTERNAL
            return free < MAX_FREE_RETRIES and not (ours and internal >= MAX_INTERNAL_RETRIES)
        case Retry.CHARGED:
            succeeded = reason is EndReason.EXIT and exit_code == 0
            return not succeeded and charged < max_retries
