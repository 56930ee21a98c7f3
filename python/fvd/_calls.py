"""Carries out the calls that the core makes of Python code (docs/design/python-code.md).

The core puts a call into a queue. Threads of Python take it from there, or an event loop does.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping

    from fvd._fvd import Call, Calls

    Methods = Mapping[str, Callable[..., object]]

_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def on_threads(calls: Calls, methods: Methods, *, name: str, most: int = 1) -> None:
    """Carry out calls of `methods`, at most `most` at a time, until there will be no more.

    Raises `RuntimeError` if no thread can be started.
    """
    _Threads(calls, methods, name, most).start()


def on_event_loop(calls: Calls, methods: Mapping[str, Callable[..., Awaitable[object]]]) -> None:
    """Carry out calls of coroutines in the running event loop, until it is closed or there are no more."""
    _Loop(calls, methods).start()


def join(seconds: float) -> None:
    """Wait for threads that have nothing to do any more. Called when the interpreter exits."""
    deadline = time.monotonic() + seconds
    for thread in list(_threads):
        thread.join(max(0.0, deadline - time.monotonic()))


class _Threads:
    """The threads of one queue. When the last one that waits takes a call, another one is started."""

    def __init__(self, calls: Calls, methods: Methods, name: str, most: int) -> None:
        self._calls = calls
        self._methods = methods
        self._name = name
        self._left = most
        self._idle = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        # A daemon: Python code that hangs must not hold up the end of the program.
        thread = threading.Thread(target=self._run, name=f"fvd-{self._name}", daemon=True)
        self._left -= 1
        self._idle += 1
        try:
            thread.start()
        except RuntimeError:
            self._left += 1
            self._idle -= 1
            raise
        _threads.add(thread)

    def _run(self) -> None:
        while (call := self._calls.next()) is not None:
            self._begin()
            _carry_out(call, self._methods)
            with self._lock:
                self._idle += 1

    def _begin(self) -> None:
        """Count this thread as busy. The call may hang, so another thread waits for the next one."""
        with self._lock:
            self._idle -= 1
            if not self._idle and self._left:
                # Without it, the threads that there are do all the work.
                with contextlib.suppress(RuntimeError):
                    self.start()


def _carry_out(call: Call, methods: Methods) -> None:
    try:
        result = methods[call.method](*call.arguments)
    except BaseException as error:
        # In a forked child: the one who waits is in the parent.
        with contextlib.suppress(ValueError):
            call.fail(error)
    else:
        with contextlib.suppress(ValueError):
            call.answer(result)


class _Loop:
    """What an event loop calls when there are calls. Only the event loop has a reference to it."""

    def __init__(self, calls: Calls, methods: Mapping[str, Callable[..., Awaitable[object]]]) -> None:
        import asyncio

        self._calls = calls
        self._methods = methods
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[int, asyncio.Task[None]] = {}

    def start(self) -> None:
        self._loop.add_reader(self._calls.fileno(), self._ready)

    def _ready(self) -> None:
        taken = self._calls.take()
        if taken is None:
            self._loop.remove_reader(self._calls.fileno())
            for task in self._tasks.values():
                task.cancel()
            return
        calls, given_up = taken
        tasks = self._tasks
        for call in calls:
            number = call.number
            tasks[number] = self._loop.create_task(_carry_out_async(call, self._methods))
            tasks[number].add_done_callback(functools.partial(_forget, tasks, number))
        for number in given_up:
            if number in tasks:
                tasks[number].cancel()

    def __del__(self) -> None:
        """The event loop has been closed."""
        self._calls.end("its event loop has been closed")


def _forget(tasks: dict[int, asyncio.Task[None]], number: int, _: object) -> None:
    tasks.pop(number, None)


async def _carry_out_async(call: Call, methods: Mapping[str, Callable[..., Awaitable[object]]]) -> None:
    try:
        result = await methods[call.method](*call.arguments)
    except Exception as error:
        call.fail(error)
    except BaseException as error:
        # Cancelled; or `KeyboardInterrupt` and `SystemExit`, which end the event loop.
        call.fail(error)
        raise
    else:
        call.answer(result)
