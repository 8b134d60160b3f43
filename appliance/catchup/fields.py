"""The fields of a frame's payload, as docs/wire-format.md, section 3, writes them. Pure."""

from appliance.errors import WireViolationError


class Fields:
    """The fields of one payload, taken from the front; refuses what is short, long or odd."""

    def __init__(self, payload: memoryview, kind: str) -> None:
        self._left, self._kind = payload, kind

    def bad(self, what: str) -> WireViolationError:
        return WireViolationError(f"{self._kind}: {what}")

    def bytes(self, size: int) -> bytes:
        return bytes(self.view(size))

    def view(self, size: int) -> memoryview:
        if size > len(self._left):
            raise self.bad("it is cut short")
        found, self._left = self._left[:size], self._left[size:]
        return found

    def rest(self) -> memoryview:
        return self.view(len(self._left))

    def number(self, size: int, least: int = 0, most: int | None = None) -> int:
        found = int.from_bytes(self.view(size), "little")
        if found < least or (most is not None and found > most):
            raise self.bad(f"{found} is out of range")
        return found

    def zeros(self, size: int) -> None:
        if any(self.view(size)):
            raise self.bad("what must be zero is not")

    def text(self, most: int) -> str:
        data = self.bytes(self.number(2, 0, most))
        try:
            found = data.decode()
        except UnicodeDecodeError as exc:
            raise self.bad("a text is no UTF-8") from exc
        if any(one < " " or "\x7f" <= one < "\xa0" for one in found):
            raise self.bad("a text holds control characters")
        return found

    def end(self) -> None:
        """Refuses what follows the last field."""
        if self._left:
            raise self.bad("bytes follow its end")


def told_text(text: str, most: int) -> str:
    """A text as the other end comes to know it: what may not go over the wire becomes ``?``, and
    what is longer than ``most`` bytes is cut.
    """
    plain = "".join("?" if one < " " or "\x7f" <= one < "\xa0" else one for one in text)
    return plain.encode(errors="replace")[:most].decode(errors="ignore")


def packed_text(text: str, most: int) -> bytes:
    data = told_text(text, most).encode()
    return len(data).to_bytes(2, "little") + data
