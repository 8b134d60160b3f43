"""Paper: PDF from HTML, and pictures of its pages.

A page holds everything it shows: WeasyPrint may open neither the network nor a file, save the
fonts of the system.
"""

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import cast

from appliance.errors import ToolFailedError, ToolMissingError

FONTS = {  # Debian package to a file of it
    "fonts-dejavu-core": Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
    "fonts-wqy-microhei": Path("/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"),
}
LIBRARIES = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"
_POINTS = 72  # of PDF, an inch


def require() -> None:
    """Raises ToolMissingError naming the Debian packages that paper needs and lacks."""
    missing = [package for package, file in FONTS.items() if not file.exists()]
    if missing:
        raise ToolMissingError(f"Paper needs the Debian packages {' '.join(missing)} for its text")
    try:
        with redirect_stdout(io.StringIO()):
            import weasyprint  # noqa: F401, PLC0415 - it loads Pango, which need not be there
    except OSError as exc:
        raise ToolMissingError(f"Paper needs the Debian packages {LIBRARIES} ({exc})") from exc


def pdf(html: str) -> bytes:
    """A page of HTML as PDF, headings as bookmarks.

    Raises ToolMissingError as ``require``, and ToolFailedError where the page refers to anything
    outside itself but for ``data:``.
    """
    require()
    from weasyprint import HTML  # noqa: PLC0415 - as above
    from weasyprint.urls import FatalURLFetchingError, URLFetcher  # noqa: PLC0415 - as above

    inside = URLFetcher(allowed_protocols=("data",), allow_redirects=False, fail_on_errors=True)
    try:
        made = HTML(string=html, base_url=None, url_fetcher=inside).write_pdf()
    except FatalURLFetchingError as exc:
        raise ToolFailedError(f"The page refers to what it does not hold: {exc}") from exc
    return cast("bytes", made)


def png(document: bytes, dpi: int = 150) -> list[bytes]:
    """Every page of a PDF as a PNG of ``dpi`` dots an inch, which it says, so that it is printed
    in that size.
    """
    from pypdfium2 import PdfDocument  # noqa: PLC0415 - nothing else needs its 7 MB

    made: list[bytes] = []
    with PdfDocument(document) as pages:
        for page in pages:
            data = io.BytesIO()
            page.render(scale=dpi / _POINTS).to_pil().save(data, "PNG", dpi=(dpi, dpi))
            made.append(data.getvalue())
    return made
