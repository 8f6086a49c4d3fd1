"""Names of the NOTIFY channels: who tells whom."""

#: Gateways to the scheduler: there is a new job or a cancel request. No payload; the scheduler looks.
WORK = "rgrid_work"
#: The scheduler to whoever waits: these jobs changed (ids, separated by commas; empty means look at everything).
CHANGED = "rgrid_changed"
#: Executors to whoever follows: this job's log grew (its id).
LOGS = "rgrid_logs"
