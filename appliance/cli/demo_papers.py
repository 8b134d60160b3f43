"""The demo's papers: every home reports, and the operator's report takes over what they tell."""

from collections.abc import Sequence
from pathlib import Path

from appliance import jobs
from appliance.cli.show import translated as _
from appliance.errors import ToolMissingError
from appliance.language import Language
from appliance.report.document import Signed, sign
from appliance.report.gather import gather
from appliance.report.publish import publish
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey
from appliance.seal.store import Store
from appliance.state import State


def make(
    base: Path, operator: Path, others: Sequence[Path], store: Path, key: PrivateKey
) -> tuple[int, str]:
    """The report in ``base``, with what the key opens; returns the bytes of its files, and what
    came of it. Without what paper needs there is no PDF.
    """
    found = Store(store)
    told = [_signed(home, found, None, None) for home in others]
    report = _signed(operator, found, base / "volumes", key, told)
    out, note = base / "papers" / "report", ""
    try:
        files = publish(report, out, list(Language), pdf=True)
    except ToolMissingError as exc:
        files = publish(report, out, list(Language), pdf=False)
        note = _("; no PDF: {why}").format(why=exc.what)
    size = sum(one.stat().st_size for one in files)
    result = _("{path}, signed, in {count} files").format(path=f"{out}.json", count=len(files))
    return size, result + note


def _signed(
    home: Path,
    store: Store,
    place: Path | None,
    key: PrivateKey | None,
    others: Sequence[Signed] = (),
) -> Signed:
    device, targets = Device.of(home), {}
    if place is not None:
        targets = {("local", str(place)): jobs.target_for("local", str(place))}
    with State(home) as state:
        shipment = store.head.shipment
        at_hand = store if place is not None else None
        found = gather(state, device.fingerprint, shipment, at_hand, targets, key, others)
    return sign(found, device)
