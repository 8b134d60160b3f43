"""A screen of the console as a picture: cell by cell, as a terminal with a CJK font draws it."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

CELL = (9, 19)
_SIZE = 15
_LATIN = "/usr/share/fonts/truetype/dejavu/DejaVuSansMono{}.ttf"
_WIDE = "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"
_BACK, _FRONT = (18, 18, 18), (224, 224, 224)
# Parts of a cell, in eighths from its top left: what fonts draw with gaps between.
_BLOCKS = {
    "█": (0, 0, 8, 8),
    "▀": (0, 0, 8, 4),
    "▔": (0, 0, 8, 1),
    "▌": (0, 0, 4, 8),
    "▐": (4, 0, 8, 8),
    **{one: (0, 8 - eighths, 8, 8) for eighths, one in enumerate("▁▂▃▄▅▆▇", 1)},
}
_Colour = tuple[int, int, int]


@cache
def _font(*, wide: bool, bold: bool) -> ImageFont.FreeTypeFont:
    if wide:
        return ImageFont.truetype(_WIDE, _SIZE + 1, index=1)
    return ImageFont.truetype(_LATIN.format("-Bold" if bold else ""), _SIZE)


def picture(strips: Sequence[Strip]) -> Image.Image:
    """The lines of a screen, from its top."""
    wide, tall = max(one.cell_length for one in strips), len(strips)
    made = Image.new("RGB", (wide * CELL[0], tall * CELL[1]), _BACK)
    draw = ImageDraw.Draw(made)
    for row, strip in enumerate(strips):
        column = 0
        for segment in strip:
            column = _drawn(draw, segment, column, row)
    return made


def save(strips: Sequence[Strip], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(strips).save(path, optimize=True)


def _drawn(draw: ImageDraw.ImageDraw, segment: Segment, column: int, row: int) -> int:
    """The column behind it."""
    front, back, bold = _colours(segment.style or Style())
    for one in segment.text:
        cells = cell_len(one)
        left, top = column * CELL[0], row * CELL[1]
        right, bottom = left + cells * CELL[0], top + CELL[1]
        if cells:
            draw.rectangle((left, top, right - 1, bottom - 1), fill=back)
        if one in _BLOCKS:
            x0, y0, x1, y1 = _BLOCKS[one]
            width, height = right - left, bottom - top
            draw.rectangle(
                (
                    left + x0 * width // 8,
                    top + y0 * height // 8,
                    left + x1 * width // 8 - 1,
                    top + y1 * height // 8 - 1,
                ),
                fill=front,
            )
        elif not one.isspace():
            font = _font(wide=cells == 2, bold=bold)
            draw.text((left, top + 1), one, font=font, fill=front)
        column += cells
    return column


def _colours(style: Style) -> tuple[_Colour, _Colour, bool]:
    front, back = _triplet(style.color, _FRONT), _triplet(style.bgcolor, _BACK)
    if style.reverse:
        front, back = back, front
    if style.dim:
        red, green, blue = ((a * 2 + b) // 3 for a, b in zip(front, back, strict=True))
        front = (red, green, blue)
    return front, back, bool(style.bold)


def _triplet(color: Color | None, default: _Colour) -> _Colour:
    if color is None or color.is_default:
        return default
    found = color.get_truecolor()
    return found.red, found.green, found.blue
