"""Room for one parsing process, kept filled."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

from pebble import ProcessPool

from ragsvc.ingestion.sandbox import child

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from pebble import ProcessFuture

    from ragsvc.ingestion.parsing.limits import ParseLimits

# A process is replaced after so many tasks: what native code leaks or fragments goes with it.
TASKS_PER_PROCESS = 20


class Slot:
    """Room for one child, in a pool of its own: what breaks a pool, a death with its lock held, reaches nobody else."""

    def __init__(self, limits: ParseLimits, context: ForkServerContext) -> None:
        self._limits = limits
        self._context = context
        self._pool = self._make_pool()

    @property
    def usable(self) -> bool:
        """Whether the pool works; it starts the child when that has not been done."""
        return bool(self._pool.active)

    def start(self) -> None:
        """Start the child; blocks until it is there."""
        _ = self.usable

    def stop(self) -> None:
        """Kill the child; blocks until it is gone."""
        self._pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves it unannotated
        self._pool.join()

    def restart(self) -> None:
        """Replace the child, in whatever state it is."""
        self.stop()
        self._pool = self._make_pool()
        self.start()

    def schedule(self, target: str, arguments: dict[str, object]) -> ProcessFuture[object]:
        """Hand a task to the child."""
        timeout_s = self._limits.timeout_s
        return self._pool.schedule(
            child.run, args=(target, arguments), kwargs={"timeout_s": timeout_s}, timeout=timeout_s
        )

    def _make_pool(self) -> ProcessPool:
        return ProcessPool(
            max_workers=1,
            max_tasks=TASKS_PER_PROCESS,
            initializer=child.initialise,
            initargs=(self._limits,),
            context=self._context,
        )


def prevent_main_reimport() -> None:
    """Spare every child the import of the script that started this process: of arq, a third of a second.

    multiprocessing runs a script again in each child, but leaves out a `python -m package`.
    """
    main = sys.modules["__main__"]
    if getattr(main, "__spec__", None) is None:
        main.__spec__ = ModuleSpec("ragsvc.__main__", loader=None)
