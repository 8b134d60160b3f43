"""Loop devices over the local target's files: one for each, whole and writable."""

from appliance.errors import VolumeBusyError
from appliance.run import run


def loop_over(path: str, sector: int) -> str:
    """The file's loop device with that logical sector size, which is made when it has none."""
    for node, *how in _loops_over(path):
        if how == [str(sector), "0", "0", "0"]:
            return node
        raise _busy(path, node, f"not whole and writable with sectors of {sector} bytes")
    args = ("--find", "--show", "--sector-size", str(sector), path)
    return run("losetup", *args).strip()


def refuse_looped(path: str) -> None:
    """Refuse a file that somebody could change through a loop device."""
    for node, *_ in _loops_over(path):
        raise _busy(path, node, "rounds alone may change a replica")


def _busy(path: str, node: str, but: str) -> VolumeBusyError:
    return VolumeBusyError(
        f"{path} is attached as {node}, but {but}",
        safe="The volume is as it was.",
        todo="Detach it, then try again.",
        verb=f"losetup --detach {node}",
    )


def _loops_over(path: str) -> list[list[str]]:
    """Loop devices over a file: node, sector size, offset, size limit, 1 for read-only."""
    args = ("--raw", "--noheadings", "--output", "NAME,LOG-SEC,OFFSET,SIZELIMIT,RO")
    return [one.split() for one in run("losetup", *args, "--associated", path).splitlines()]
