"""What a terminal can draw. A module of its own, since few verbs need it."""

from io import StringIO

import segno


def qr(text: str) -> str:
    """A QR code in block characters, for a terminal."""
    out = StringIO()
    segno.make_qr(text, error="m").terminal(out, border=2, compact=True)
    return out.getvalue()
