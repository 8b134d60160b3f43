"""What a running job is asked for: to stop, to pause, to go on. Engines call it as their stop
flag, once a block; while the job is paused that call does not return.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from appliance.state import JobState

_LOOK_SECONDS = 0.1


class Asked:
    """Set by signals, which may come at any moment: plain flags, no locks. ``moved`` hears when
    the job begins to rest (paused) and when it goes on (running).
    """

    def __init__(self, moved: Callable[[JobState], None] = lambda _: None) -> None:
        self._moved = moved
        self._stop = self._pause = False
        self._alone = threading.Lock()
        self._settle: Callable[[], None] = lambda: None
        self._awake = 0

    def stop(self) -> None:
        self._stop = True

    def pause(self) -> None:
        self._pause = True

    def go_on(self) -> None:
        self._pause = False

    def __call__(self) -> bool:
        """Whether to stop; once it rests no more, where it is asked to pause. Raises what making
        safe raises.
        """
        if self._pausing:
            with self._alone:  # the first of several threads rests for all of them
                if self._pausing:
                    self._rest()
        return self._stop

    @property
    def _pausing(self) -> bool:
        return self._pause and not self._stop and not self._awake

    def _rest(self) -> None:
        self._settle()
        self._moved(JobState.PAUSED)
        while self._pausing:
            time.sleep(_LOOK_SECONDS)
        self._moved(JobState.RUNNING)

    @contextmanager
    def settled_by(self, settle: Callable[[], None]) -> Iterator[None]:
        """Before the job rests in here, ``settle`` makes safe what was done so far; in the thread
        that was about to do more.
        """
        before, self._settle = self._settle, settle
        try:
            yield
        finally:
            self._settle = before

    @contextmanager
    def awake(self) -> Iterator[None]:
        """In here something else waits for the job: it rests only afterwards."""
        self._awake += 1
        try:
            yield
        finally:
            self._awake -= 1
