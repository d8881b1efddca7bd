"""What a gate is, and the environment it runs in."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# Folders that hold build products or somebody else's files.
SKIPPED = {".git", "target", "node_modules", ".ebb"}


@dataclass
class Outcome:
    """What a gate found. A gate that checked nothing has failed: it would pass over a misnamed folder."""

    checked: int = 0
    unit: str = "files"
    findings: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def find(self, where: object, what: str) -> None:
        self.findings.append(f"{where}: {what}")

    @property
    def passed(self) -> bool:
        return not self.findings and self.checked > 0


@dataclass(frozen=True)
class Context:
    """`root` is the tree under test, which the self-test replaces by a damaged copy; `tools` holds what was installed."""

    root: Path
    tools: Path

    def tool(self, environment: str, name: str) -> str:
        return str(self.tools / environment / "bin" / name)

    def files(self, *patterns: str) -> list[Path]:
        """Files of the tree that match, sorted; patterns are those of `Path.rglob`."""
        found = set()
        for pattern in patterns:
            for path in self.root.rglob(pattern):
                if path.is_file() and not SKIPPED.intersection(path.relative_to(self.root).parts):
                    found.add(path)
        return sorted(found)

    def bicep(self) -> list[Path]:
        return self.files("infra/**/*.bicep")

    def name(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def run(self, *command: str, stdin: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **variables},
        )


def lines(text: str, limit: int = 40) -> list[str]:
    """The lines of a tool's output that say something."""
    kept = [line for line in text.splitlines() if line.strip()]
    return kept[:limit] + ([f"... and {len(kept) - limit} more lines"] if len(kept) > limit else [])


@dataclass(frozen=True)
class Gate:
    """`needs` are names of tools as `infra/check` installs them."""

    check: Callable[[Context], Outcome]
    needs: tuple[str, ...] = ()
