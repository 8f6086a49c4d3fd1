"""Names of the NOTIFY channels: who tells whom."""

#: Gateways to the scheduler: this job (its id) is new or is to be cancelled. Empty means: look at everything.
WORK = "rgrid_work"
#: The scheduler to whoever waits: these jobs changed (ids, separated by commas; empty means look at everything).
CHANGED = "rgrid_changed"
#: Executors to whoever follows: this job's log grew (its id).
LOGS = "rgrid_logs"
