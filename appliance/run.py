"""Other programs: the only room that starts them. Their output is foreign text."""

import os
import shutil
import threading
from contextlib import suppress

import sh

from appliance.errors import ToolFailedError, ToolMissingError

# Where sfdisk and losetup are; not in every user's PATH.
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_PACKAGES = {
    "losetup": "mount",
    "qemu-img": "qemu-utils",
    "sfdisk": "fdisk",
}
_MOST_OUTPUT = 1 << 22


def run(tool: str, *args: str, timeout: float = 60) -> str:
    """Run ``tool`` in the C locale with nothing on its standard input; returns what it prints.

    Another exit code than 0 and running longer than ``timeout`` seconds raise ToolFailedError.
    """
    try:
        command = sh.Command(tool, search_paths=_paths())
    except sh.CommandNotFound as exc:
        package = _PACKAGES.get(tool, tool)
        raise ToolMissingError(
            f"The program {tool} is missing; Debian package: {package}"
        ) from exc
    late = threading.Event()
    try:
        running = command(
            *args,
            _env={**os.environ, "LC_ALL": "C"},
            _tty_out=False,
            _in=b"",
            _bg=True,
            _bg_exc=False,
        )
        # Not sh's _timeout: with it, a program that takes 10 ms is waited for for 100.
        timer = threading.Timer(timeout, _end, (running, late))
        timer.start()
        try:
            running.wait()
        finally:
            timer.cancel()
    except sh.ForkException as exc:
        raise ToolFailedError(f"{tool} cannot be started") from exc
    except sh.ErrorReturnCode as exc:
        if late.is_set():
            raise ToolFailedError(f"{tool} did not answer within {timeout:g} s") from exc
        said = exc.stderr.decode(errors="replace").strip()[:300]
        raise ToolFailedError(f"{tool} failed with exit code {exc.exit_code}: {said!r}") from exc
    return bytes(running.stdout)[:_MOST_OUTPUT].decode(errors="replace")


def installed(tool: str) -> bool:
    return shutil.which(tool, path=os.pathsep.join(_paths())) is not None


def _paths() -> list[str]:
    return [*os.environ.get("PATH", "").split(os.pathsep), *_SBIN.split(":")]


def _end(running: sh.RunningCommand, late: threading.Event) -> None:
    if running.is_alive():
        late.set()
        with suppress(ProcessLookupError):  # it has just ended by itself
            running.kill()
