"""The one catalogue of everything that can go wrong and that a person can do something about.

Shared by the command line (exit code), the gateway (HTTP status) and the SDK. An error says what is wrong in one line
and what to do in another. It is rendered at two borders only: the CLI's and the API's. A test holds every hint against
the command line that exists.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: Exit codes of `rgrid run` and `rgrid wait` that are not the script's own.
EXIT_BAD_INPUT = 2
EXIT_TIMEOUT = 124
EXIT_GRID = 125
EXIT_CANCELLED = 130
EXIT_OOM = 137


class Code(StrEnum):
    """Name of one kind of error, the same in the terminal, in problem+json and in Python."""

    # What the user typed
    USAGE = "usage"
    SCRIPT_NOT_FOUND = "script-not-found"
    SCRIPT_UNREADABLE = "script-unreadable"
    SCRIPT_IS_DIRECTORY = "script-is-directory"
    FILE_NOT_FOUND = "file-not-found"
    FILE_UNREADABLE = "file-unreadable"
    PATH_INVALID = "path-invalid"
    SYMLINK_LEAVES_TREE = "symlink-leaves-tree"
    RUNTIME_UNKNOWN = "runtime-unknown"
    RUNTIME_UNDECIDED = "runtime-undecided"
    QUANTITY_INVALID = "quantity-invalid"
    OPTION_INVALID = "option-invalid"
    LIMIT_EXCEEDED = "limit-exceeded"
    INPUT_TOO_LARGE = "input-too-large"
    DEPENDENCIES_INVALID = "dependencies-invalid"
    SUBMISSION_INVALID = "submission-invalid"
    SETTING_INVALID = "setting-invalid"
    # What the gateway answers
    INPUTS_MISSING = "inputs-missing"
    DIGEST_MISMATCH = "digest-mismatch"
    UPLOAD_STALLED = "upload-stalled"
    BODY_TOO_LARGE = "body-too-large"
    KEY_MISSING = "key-missing"
    KEY_WRONG = "key-wrong"
    KEY_IN_USE = "key-in-use"
    NOT_ALLOWED = "not-allowed"
    NOT_FOUND = "not-found"
    JOB_NOT_FOUND = "job-not-found"
    JOB_ENDED = "job-ended"
    JOB_AMBIGUOUS = "job-ambiguous"
    IDEMPOTENCY_CONFLICT = "idempotency-conflict"
    OUTPUT_NOT_FOUND = "output-not-found"
    LOCK_NOT_FOUND = "lock-not-found"
    IMAGE_NOT_ALLOWED = "image-not-allowed"
    WAIT_TIMED_OUT = "wait-timed-out"
    # What the grid lacks
    GRID_NOT_CONFIGURED = "grid-not-configured"
    GRID_UNREACHABLE = "grid-unreachable"
    GRID_VERSION = "grid-version"
    GRID_START_FAILED = "grid-start-failed"
    GRID_BUSY = "grid-busy"
    SERVER_NOT_INSTALLED = "server-not-installed"
    DATABASE_UNREACHABLE = "database-unreachable"
    DATABASE_REFUSED = "database-refused"
    SCHEMA_UNKNOWN = "schema-unknown"
    DOCKER_UNREACHABLE = "docker-unreachable"
    RAY_UNREACHABLE = "ray-unreachable"
    RAY_VERSION = "ray-version"
    PORT_TAKEN = "port-taken"
    DISK_FULL = "disk-full"
    IMAGE_UNAVAILABLE = "image-unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is the same about every error of one code."""

    #: One line for the reference page.
    meaning: str
    #: What to do, with the command to type; empty when there is nothing to do.
    hint: str
    status: int = 422
    exit_code: int = EXIT_BAD_INPUT


def _grid(meaning: str, hint: str, status: int = 503) -> Entry:
    return Entry(meaning, hint, status, EXIT_GRID)


CATALOGUE: dict[Code, Entry] = {
    Code.USAGE: Entry("The command line cannot be understood.", "See `rgrid --help`."),
    Code.SCRIPT_NOT_FOUND: Entry(
        "The script named does not exist.",
        "Check the path; the script comes first, its own arguments after it.",
    ),
    Code.SCRIPT_UNREADABLE: Entry(
        "The script exists but may not be read.", "Give yourself the right to read it with `chmod u+r`."
    ),
    Code.SCRIPT_IS_DIRECTORY: Entry(
        "A directory was named where a script belongs.",
        "Name the script inside it, and send the folder along with `rgrid run --with FOLDER SCRIPT`.",
    ),
    Code.FILE_NOT_FOUND: Entry("A file named in an option does not exist.", "Check the path."),
    Code.FILE_UNREADABLE: Entry(
        "A file or folder that is to go along may not be read.",
        "Give yourself the right to read it, or leave it out by a line in .rgridignore.",
    ),
    Code.PATH_INVALID: Entry(
        "A file's name cannot be laid out in a workspace: it has `..`, a control character or is not UTF-8.",
        "Rename the file, or leave it out by a line in .rgridignore.",
    ),
    Code.SYMLINK_LEAVES_TREE: Entry(
        "A symbolic link points outside the folder that is sent.",
        "Replace the link by the file it points to, or leave it out by a line in .rgridignore.",
    ),
    Code.RUNTIME_UNKNOWN: Entry("No runtime has this name.", "See all of them with `rgrid runtimes`."),
    Code.RUNTIME_UNDECIDED: Entry(
        "Nothing says how to run this file: its ending is not known and no runtime was given.",
        "Say which with `rgrid run --runtime NAME SCRIPT`; `rgrid runtimes` lists the names.",
    ),
    Code.QUANTITY_INVALID: Entry(
        "An amount of memory, CPU or time cannot be understood.",
        "Write memory like 512M or 1.5GiB, CPUs like 0.5, and time like 90s or 1h30m.",
    ),
    Code.OPTION_INVALID: Entry("An option's value cannot be used.", "See `rgrid run --help`."),
    Code.LIMIT_EXCEEDED: Entry(
        "The job asks for more than the operator of the grid allows.",
        "Ask for less, or ask the operator to raise the ceiling; `rgrid doctor` lists the settings.",
    ),
    Code.INPUT_TOO_LARGE: Entry(
        "An input is larger than the grid takes.",
        "Leave it out by a line in .rgridignore, or ask the operator to raise RGRID_MAX_INPUT_BYTES.",
        413,
    ),
    Code.DEPENDENCIES_INVALID: Entry(
        "What a script says it needs cannot be understood, or is not allowed here.",
        "Correct what it declares, or run it without with `rgrid run --no-deps SCRIPT`.",
    ),
    Code.SUBMISSION_INVALID: Entry("The submission is malformed.", "See the API's own description at /docs."),
    Code.SETTING_INVALID: Entry(
        "A setting has a value that cannot be used.", "See every setting and its meaning with `rgrid doctor`."
    ),
    Code.INPUTS_MISSING: Entry(
        "The submission names inputs that were not uploaded.",
        "Upload them first with PUT /v1/inputs/{digest}.",
        409,
    ),
    Code.DIGEST_MISMATCH: Entry(
        "The bytes uploaded are not those the digest names.",
        "Upload the file again; it may have changed meanwhile.",
    ),
    Code.UPLOAD_STALLED: Entry(
        "The upload fell silent before all of it had come.", "Upload the file again.", 408, EXIT_GRID
    ),
    Code.BODY_TOO_LARGE: Entry("The request's body is larger than the gateway takes.", "Send less at once.", 413),
    Code.KEY_MISSING: Entry(
        "The request carries no API key.",
        "Set RGRID_API_KEY, or type `rgrid config set api-key KEY`.",
        401,
        EXIT_GRID,
    ),
    Code.KEY_WRONG: Entry(
        "The API key is unknown or was revoked.",
        "Ask the operator for a new one, made with `rgrid keys create OWNER`.",
        401,
        EXIT_GRID,
    ),
    Code.KEY_IN_USE: Entry(
        "This is the key that you are asking with: without it you could not ask again.",
        "Revoke it with another admin's key, made with `rgrid keys create OWNER --role admin`.",
        409,
    ),
    Code.NOT_ALLOWED: Entry("This needs an operator's key.", "Use a key whose role is admin.", 403, EXIT_GRID),
    Code.NOT_FOUND: Entry("There is nothing here.", "", 404),
    Code.JOB_NOT_FOUND: Entry("No job of yours has this id.", "See your jobs with `rgrid list`.", 404),
    Code.JOB_ENDED: Entry("The job has ended already.", "See how with `rgrid show ID`.", 409),
    Code.JOB_AMBIGUOUS: Entry(
        "More than one job's id begins like this.", "Type more of the id; `rgrid list` has it.", 409
    ),
    Code.IDEMPOTENCY_CONFLICT: Entry(
        "This idempotency key was used for another submission.", "Use a new key for a new submission.", 409
    ),
    Code.OUTPUT_NOT_FOUND: Entry("The job has no such output.", "See what it has with `rgrid show ID`.", 404),
    Code.LOCK_NOT_FOUND: Entry(
        "The job has no lock: it needs nothing from an index, or was not prepared yet.",
        "See it with `rgrid show ID`.",
        404,
    ),
    Code.IMAGE_NOT_ALLOWED: Entry(
        "The image is neither a runtime's nor one that the operator allows.",
        "Use a runtime (`rgrid runtimes`), or, as the operator, allow it with `rgrid config set images 'PATTERN'` "
        "and restart the grid with `rgrid down` and `rgrid up`.",
        403,
    ),
    Code.WAIT_TIMED_OUT: Entry(
        "The time to wait is over and the job goes on.", "Wait again with `rgrid wait ID`.", 408, EXIT_TIMEOUT
    ),
    Code.GRID_NOT_CONFIGURED: _grid(
        "No grid is known here.",
        "Start one on this machine with `rgrid up`, or set RGRID_API_URL and RGRID_API_KEY.",
    ),
    Code.GRID_UNREACHABLE: _grid(
        "The grid's gateway does not answer.",
        "See what runs with `rgrid status`; start the local grid with `rgrid up`.",
    ),
    Code.GRID_VERSION: _grid(
        "The grid runs another version of RGrid than this command.",
        "Restart it in this version with `rgrid down` and `rgrid up`.",
    ),
    Code.GRID_START_FAILED: _grid("The local grid did not come up.", "Look at the log named, then run `rgrid doctor`."),
    Code.GRID_BUSY: _grid(
        "Another command is bringing this grid up or down.",
        "Wait for it to finish; `rgrid status` shows what runs.",
        409,
    ),
    Code.SERVER_NOT_INSTALLED: _grid(
        "This needs the server part of RGrid, which is not installed.",
        "Install it with `pip install 'rgrid[server]'`.",
    ),
    Code.DATABASE_UNREACHABLE: _grid(
        "Postgres does not answer.", "Check RGRID_DATABASE_URL, or start the local grid with `rgrid up`."
    ),
    Code.DATABASE_REFUSED: _grid(
        "Postgres answers but refuses the user, the password or the database.",
        "Correct the user, password and database in RGRID_DATABASE_URL.",
    ),
    Code.SCHEMA_UNKNOWN: _grid(
        "The database's schema is not the one this version knows.", "Migrate it with `rgrid db upgrade`."
    ),
    Code.DOCKER_UNREACHABLE: _grid(
        "The Docker engine does not answer.",
        "Start Docker (on most systems `sudo systemctl start docker`), then look with `rgrid doctor`.",
    ),
    Code.RAY_UNREACHABLE: _grid(
        "The Ray cluster does not answer.",
        "Check RGRID_RAY_ADDRESS, or start the local grid with `rgrid up`.",
    ),
    Code.RAY_VERSION: _grid(
        "The cluster runs another version of Ray or Python than this one.",
        "Install the version named, or start the local grid anew with `rgrid down` and `rgrid up`.",
    ),
    Code.PORT_TAKEN: _grid(
        "The port asked for is taken by another process.",
        "End that process, or give another with `rgrid up --port PORT`.",
    ),
    Code.DISK_FULL: _grid("There is no space left on the disk.", "Make room, then try again.", 507),
    Code.IMAGE_UNAVAILABLE: _grid("The image could not be had.", "Check the image's name and the node's registry."),
    Code.INTERNAL: _grid(
        "RGrid itself failed.", "Run the command again with `rgrid --debug` and report what it prints.", 500
    ),
}


class RGridError(Exception):
    """An error a person can act on.

    `code` names it, the message says what is wrong in one line, `hint` what to do, `context` the facts for machines.
    """

    def __init__(self, code: Code, message: str = "", *, hint: str | None = None, **context: Any) -> None:
        """Say what is wrong; the hint is the catalogue's unless a better one is known here."""
        entry = CATALOGUE[code]
        super().__init__(message or entry.meaning)
        self.code = code
        self.message = message or entry.meaning
        self.hint = entry.hint if hint is None else hint
        self.context = context

    @property
    def status(self) -> int:
        """HTTP status of this error."""
        return CATALOGUE[self.code].status

    @property
    def exit_code(self) -> int:
        """Exit code of a command that ends with this error."""
        return CATALOGUE[self.code].exit_code
