"""What was found, before it is put in the words of the API: files are still files of this machine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rgrid.wire import Dependencies


@dataclass(slots=True)
class Found:
    """What a script needs."""

    #: Where it was declared, for people: "PEP 723 block", "requirements.txt".
    source: str
    kind: Literal["python", "node"] = "python"
    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    requires_python: str | None = None
    #: A lock, or what declares them, used as it is.
    lock: Path | None = None
    #: What the lock or a requirement refers to: `pyproject.toml`, a wheel.
    files: list[Path] = field(default_factory=list)
    #: Requirements that are files, by their place in `requirements`.
    local: dict[int, Path] = field(default_factory=dict)
    #: What was left out, and why.
    notes: list[str] = field(default_factory=list)

    @property
    def all_files(self) -> list[Path]:
        """Every file that has to go along."""
        return [*([self.lock] if self.lock else []), *self.files, *self.local.values()]

    @property
    def empty(self) -> bool:
        """Say whether nothing is needed after all."""
        return self.lock is None and not self.requirements and not self.files

    def line(self) -> str:
        """Say it in one line."""
        if self.lock is not None or self.kind == "node":
            return f"dependencies: from {self.source}"
        count = len(self.requirements)
        return f"dependencies: {count} package{'s' if count != 1 else ''} from {self.source}"

    def on_wire(self, places: Mapping[Path, str]) -> Dependencies:
        """Put it in the words of the API; `places` says where each file lies in the workspace."""
        lines = [f"./{places[self.local[i]]}" if i in self.local else r for i, r in enumerate(self.requirements)]
        return Dependencies(
            kind=self.kind,
            source=self.source,
            requirements=lines,
            constraints=self.constraints,
            indexes=self.indexes,
            lock=places[self.lock] if self.lock else None,
            files=[places[file] for file in (*self.files, *self.local.values())],
        )
