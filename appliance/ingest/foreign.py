"""Foreign text: what disks, udev and blkid say, made fit to be kept. Showing it safely is the
reader's part.
"""

import re

from appliance.seal.papers import MAX_TEXT

_ENCODED = re.compile(r"(\\x[0-9a-f]{2})+")  # how udev and blkid write bytes that are not plain


def text(found: object) -> str:
    """What the format takes, in whole characters; of what is no text nothing."""
    return found[:MAX_TEXT].encode(errors="replace").decode() if isinstance(found, str) else ""


def decoded(found: str) -> str:
    """The text in which udev or blkid has written some bytes as hex."""

    def plain(run: re.Match[str]) -> str:
        return bytes.fromhex(run[0].replace("\\x", "")).decode(errors="replace")

    return text(_ENCODED.sub(plain, found))
