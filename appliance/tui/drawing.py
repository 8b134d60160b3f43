"""What a terminal can draw by block characters."""

import segno

_HALVES = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
_QUIET = 2  # modules around the code: a reader takes fewer than the four of the standard


def qr(text: str) -> str:
    """A QR code, light modules drawn: two rows of them a line, to be shown light on dark."""
    code = segno.make_qr(
        text, error="l"
    )  # nothing rubs off a screen, and the smallest is 24 lines
    rows = [[1 - one for one in row] for row in code.matrix_iter(border=_QUIET)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    return "\n".join(
        "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    )
