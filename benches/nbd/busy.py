"""Other work on the machine: processes that burn processor time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

NICE = 10


@dataclass(frozen=True)
class Busy:
    """A number of processes that never wait, and their niceness."""

    count: int = 0
    nice: int = NICE

    @classmethod
    def parse(cls, text: str) -> "Busy":
        """`N` or `N:NICE`. Raises `ValueError`."""
        count, _, nice = text.partition(":")
        return cls(int(count), int(nice or NICE))

    def __str__(self) -> str:
        return f"{self.count} burners at nice {self.nice}" if self.count else "no burners"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Burns until the end of the block.

        The processes stay in this session. Where the scheduler has autogroups, it shares processor time
        between sessions first, and niceness counts only within one.
        """

        def lower() -> None:
            os.nice(self.nice)

        burners = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=lower)
            for _ in range(self.count)
        ]
        try:
            yield
        finally:
            for burner in burners:
                burner.kill()
                burner.wait()
