"""Text in lines of so many cells of a terminal, of which a wide character takes two."""

import re

from appliance.language import width

# What stands between two places at which a line may end: a word, or a wide character with what
# must not be parted from it.
_WIDE = (
    r"\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60"
)
_OPENS = "「『（《【"  # noqa: RUF001 - Chinese punctuation is meant
_CLOSES = "」』）》】，。；：、！？"  # noqa: RUF001 - Chinese punctuation is meant
_PIECE = re.compile(
    rf"\s+|[{_OPENS}]*(?:[^\s{_WIDE}]+|[{_WIDE}])[{_CLOSES},.;:!?)\]]*|[{_OPENS}{_CLOSES}]+"
)


def folded(text: str, cells: int) -> list[str]:
    """``text`` in lines of at most so many cells; only a single word may be wider."""
    lines, line = [], ""
    for piece in _PIECE.findall(text):
        if line and width(line + piece.rstrip()) > cells:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    return [*lines, line.rstrip()] if line.strip() else lines
