"""A slot for one parsing process, which is replaced when it dies."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

from ragsvc.ingestion.sandbox import child
from ragsvc.ingestion.sandbox.channel import DataPool

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from pebble import ProcessFuture

    from ragsvc.ingestion.parsing.limits import ParseLimits


class Slot:
    """A slot for one child. Each has its own pool, so a child that dies while it holds a lock blocks no other slot."""

    def __init__(self, limits: ParseLimits, context: ForkServerContext, *, tasks_per_process: int) -> None:
        self._limits = limits
        self._tasks_per_process = tasks_per_process
        self._context = context
        self._pool = self._make_pool()

    @property
    def usable(self) -> bool:
        """Whether the pool works; starts the child if it is not running yet."""
        return bool(self._pool.active)

    def start(self) -> None:
        """Start the child; blocks until it runs."""
        _ = self.usable

    def stop(self) -> None:
        """Kill the child; blocks until it has exited."""
        self._pool.stop()  # type: ignore[no-untyped-call]  # unannotated in pebble
        self._pool.join()

    def restart(self) -> None:
        """Replace the child, whatever state it is in."""
        self.stop()
        self._pool = self._make_pool()
        self.start()

    def schedule(self, target: str, arguments: dict[str, object]) -> ProcessFuture[object]:
        """Submit a task to the child."""
        timeout_s = self._limits.timeout_s
        return self._pool.schedule(
            child.run, args=(target, arguments), kwargs={"timeout_s": timeout_s}, timeout=timeout_s
        )

    def _make_pool(self) -> DataPool:
        return DataPool(
            max_workers=1,
            max_tasks=self._tasks_per_process,
            initializer=child.initialise,
            initargs=(self._limits,),
            context=self._context,
        )


def prevent_main_reimport() -> None:
    """Keep multiprocessing from importing the main script in every child; importing arq's takes a third of a second.

    multiprocessing runs a main script again in each child, but not the `__main__` of a package.
    """
    main = sys.modules["__main__"]
    if getattr(main, "__spec__", None) is None:
        main.__spec__ = ModuleSpec("ragsvc.__main__", loader=None)
