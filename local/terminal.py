"""What the commands print: progress that reads the same with colours, without, and in a log file."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console

_QUIET_S = 2.0


class Terminal:
    """Lines on standard output; a spinner as well where somebody watches."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._errors = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(text, markup=False)

    def heading(self, text: str) -> None:
        self.console.print(f"\n{text}", style="bold", markup=False)

    def warn(self, text: str) -> None:
        self.console.print(f"warning: {text}", style="yellow", markup=False)

    def fail(self, message: str, hint: str = "") -> None:
        self._errors.print(f"error: {message}", style="red", markup=False)
        if hint:
            self._errors.print(f"  {hint}", markup=False)

    @contextlib.contextmanager
    def step(self, doing: str, *, done: str = "") -> Iterator[None]:
        """Show that something is being done while the block runs, and, with `done`, how long it took."""
        began = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(f"{doing} …"):
                yield
        else:
            self.say(f"{doing} …")
            yield
        if done:
            self.say(f"{done} in {time.monotonic() - began:.1f} s")
