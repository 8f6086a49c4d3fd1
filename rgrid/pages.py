"""The pages of the documentation that are made from tables. A test holds them to the code."""

from collections.abc import Callable, Mapping

from rgrid.domain.lifecycle import INITIAL, TERMINAL, State, diagram
from rgrid.domain.reasons import RETRY_OF, STATE_OF, WORDS, EndReason
from rgrid.errors import CATALOGUE
from rgrid.settings import Settings, written

_MADE = "<!-- Made by scripts/docs from {source}; change that instead. -->\n"


def lifecycle_page() -> str:
    """Draw the life of a job, and list the reasons it ends for."""
    rows = [f"| `{reason}` | {WORDS[reason]} | {_state(reason)} | {RETRY_OF[reason]} |" for reason in EndReason]
    begins = ", ".join(f"`{state}`" for state in State if state in INITIAL)
    ends = ", ".join(f"`{state}`" for state in State if state in TERMINAL)
    return "\n".join(
        [
            "# The life of a job\n",
            _MADE.format(source="rgrid/domain/lifecycle.py and reasons.py"),
            f"*Where* a job is. It begins in {begins} and ends in {ends}.\n",
            "```mermaid",
            diagram(),
            "```\n",
            "*Why* it ended. `charged` endings are tried again as often as the submission allows (`--retries`),",
            "`free` ones are the grid's own losses and are tried again without being counted.\n",
            "| reason | meaning | state | tried again |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def errors_page() -> str:
    """List every error with its status, exit code and hint."""
    rows = [
        f"| `{code}` | {entry.meaning} | {entry.hint} | {entry.status} | {entry.exit_code} |"
        for code, entry in CATALOGUE.items()
    ]
    return "\n".join(
        [
            "# Errors\n",
            _MADE.format(source="rgrid/errors.py"),
            "The same codes in the terminal, in the API's problem+json and in Python.\n",
            "| code | meaning | what to do | HTTP status | exit code |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            "`rgrid run` and `rgrid wait` exit with the script's own exit code; with 124 when its time limit passed,",
            "137 when it ran out of memory, 130 when it was cancelled, 125 for what is not the script's own doing.",
            "",
        ]
    )


def settings_page() -> str:
    """List every setting."""
    rows = [
        f"| `RGRID_{name.upper()}` | {field.description} | {_default(written(name, field.default))} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings\n",
            _MADE.format(source="rgrid/settings.py"),
            "Each is an environment variable, or a line in `config.toml` in RGRID_HOME (`rgrid config set`).\n",
            "| setting | meaning | default |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _state(reason: EndReason) -> str:
    return "succeeded if the exit code is 0, else failed" if reason is EndReason.EXIT else str(STATE_OF[reason])


def _default(value: str | None) -> str:
    return "" if value is None else f"`{value}`"


PAGES: Mapping[str, Callable[[], str]] = {
    "lifecycle.md": lifecycle_page,
    "errors.md": errors_page,
    "settings.md": settings_page,
}
