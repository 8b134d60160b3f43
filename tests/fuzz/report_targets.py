"""The migration report, signed by its maker, who may be hostile: read, and shown on a page."""

from collections.abc import Iterator

from appliance.language import Language
from appliance.report import document, view
from tests.fuzz.documents import documents
from tests.fuzz.scenes import DEVICE
from tests.fuzz.target import Target, steady
from tests.reports import full

_MESSAGE = b"motiongear/1 report\0" + bytes.fromhex(DEVICE.public)


def _report(data: bytes) -> None:
    """The body, signed by the device it names where that is ours."""
    signature = DEVICE.sign(_MESSAGE + data).hex().encode()
    whole = b'{"report":%b,"signature":"%b","signer":"%b"}'
    found = document.parse(whole % (data, signature, DEVICE.public.encode()))
    assert found.report.body() == data
    for language in Language:
        page = view.html(found, language)
        assert "<script" not in page


def _seeds() -> Iterator[bytes]:
    yield full(DEVICE).report.body()
    yield full(DEVICE, "").report.body()


TARGETS = (
    Target(
        "report",
        tuple(f"appliance/report/{one}.py" for one in ("document", "view", "pages")),
        steady(_report),
        lambda: list(_seeds()),
        documents,
        longest=8192,
    ),
)
