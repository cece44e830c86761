"""The channel between the worker and a parsing process: what the process sends is JSON and is never unpickled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from pebble import ProcessPool
from pebble.common.types import Result, ResultStatus
from pebble.pool.channel import Channel, WorkerChannel
from pebble.pool.process import Acknowledgement, PoolManager, TaskProblem, TaskResult, WorkerManager

if TYPE_CHECKING:
    from collections.abc import Callable

# Results are small: parsed texts and chunks are passed in files.
MAX_MESSAGE_BYTES = 64 * 1024
STARTED, ENDED = "started", "ended"


class DataChannel(Channel):
    """The worker's end."""

    def recv(self) -> object:
        """Return the next message.

        Raises:
            OSError: the process sent something else; pebble then gives up the pool, and the slot gets a new one.
        """
        content = self.reader.recv_bytes(MAX_MESSAGE_BYTES)
        try:
            kind, number, value = orjson.loads(content)
        except (ValueError, TypeError) as error:
            raise OSError("a parsing process sent an unreadable message") from error
        if not isinstance(number, int) or kind not in {STARTED, ENDED}:
            raise OSError("a parsing process sent an unknown message")
        if kind == STARTED:
            if not isinstance(value, int):
                raise OSError("a parsing process sent an unknown message")
            return Acknowledgement(value, number)
        return TaskResult(number, Result(ResultStatus.SUCCESS, value))


class DataWorkerChannel(WorkerChannel):
    """The parsing process's end."""

    def _make_send_method(self) -> Callable[[Any], None]:
        def send(message: Any) -> None:  # noqa: ANN401 - one of pebble's messages
            content = orjson.dumps(_to_data(message))
            with self.mutex.writer:
                self.writer.send_bytes(content)

        return send


def _to_data(message: Any) -> list[object]:  # noqa: ANN401 - one of pebble's messages
    match message:
        case Acknowledgement():
            return [STARTED, message.task, message.worker]
        case TaskResult() if message.result.status is ResultStatus.SUCCESS:
            return [ENDED, message.task, message.result.value]
        case TaskResult() | TaskProblem():
            # `child.run` turns all exceptions into values, so this is none of ours.
            return [ENDED, message.task, None]
        case _:
            raise TypeError(type(message).__name__)


class _DataWorkerManager(WorkerManager):
    def create_channels(self) -> None:
        read_tasks, write_tasks = self.mp_context.Pipe(duplex=False)
        read_results, write_results = self.mp_context.Pipe(duplex=False)
        self.pool_channel = DataChannel(read_results, write_tasks)
        self.workers_channel = DataWorkerChannel(
            read_tasks, write_results, (read_results, write_tasks), self.mp_context
        )


class DataPool(ProcessPool):
    """A pool whose processes return data."""

    def __init__(self, *, context: Any, **options: Any) -> None:  # noqa: ANN401 - passed on to pebble
        super().__init__(context=context, **options)
        self._pool_manager: PoolManager
        self._pool_manager.worker_manager = _DataWorkerManager(
            self._context.workers, self._context.worker_parameters, context
        )
