"""The operator's book of seals accepted before: for each device the last sequence and root.

It makes an older copy of a device's store visible. Lives in ``<home>/accepted.json``.
"""

from dataclasses import dataclass
from pathlib import Path

from appliance.block import write_durably
from appliance.errors import OlderSealError, StateError, StoreRefusedError
from appliance.events import Json
from appliance.seal import canon
from appliance.seal.kept import alone, kept
from appliance.seal.statement import Seal

FILE = "accepted.json"


@dataclass(frozen=True, slots=True)
class Line:
    """The newest seal accepted from one device. Hex."""

    device: str
    root: str
    sequence: int


def _parse(fields: canon.Fields) -> tuple[Line, ...]:
    return tuple(
        Line(one.hex("device", 32), one.hex("root", 32), one.number("sequence", 1))
        for one in fields.objects("seals", 1 << 16)
    )


def _write(lines: tuple[Line, ...]) -> Json:
    return {
        "seals": [
            {"device": one.device, "root": one.root, "sequence": one.sequence} for one in lines
        ]
    }


class Accepted:
    """The book kept under ``home``."""

    def __init__(self, home: Path) -> None:
        self._path = home / FILE
        self._lock_path = home / f"{FILE}.lock"

    def _lines(self) -> dict[str, Line]:
        with kept(self._path):
            if not self._path.exists():
                return {}
            data = self._path.read_bytes()
        try:
            lines = canon.read(data, FILE, _parse, _write, StoreRefusedError)
        except StoreRefusedError as exc:
            raise StateError(f"{self._path} is damaged ({exc.what})") from exc
        return {one.device: one for one in lines}

    def has(self, seal: Seal) -> bool:
        """Whether this is the last seal accepted from its device."""
        last = self._lines().get(seal.device)
        return last is not None and last.root == seal.root().hex()

    def refuse_older(self, seal: Seal) -> None:
        """Refuse a seal that is not above the last accepted one of its device, unless it is
        that one.
        """
        last = self._lines().get(seal.device)
        if last is None or seal.root().hex() == last.root or seal.sequence > last.sequence:
            return
        raise OlderSealError(
            f"This is seal {seal.sequence} of the device; seal {last.sequence} was accepted before"
        )

    def accept(self, seal: Seal) -> None:
        """Remember an authentic seal."""
        with alone(self._lock_path):
            lines = self._lines()
            last = lines.get(seal.device)
            if last is not None and last.sequence >= seal.sequence:
                return
            lines[seal.device] = Line(seal.device, seal.root().hex(), seal.sequence)
            ordered = tuple(lines[one] for one in sorted(lines))
            with kept(self._path):
                write_durably(self._path, canon.dump(_write(ordered)), 0o600)
