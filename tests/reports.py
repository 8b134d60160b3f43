"""Reports in which every field is filled, as their schema says."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from appliance.model import (
    Answer,
    DiskFacts,
    Encrypted,
    FileSystem,
    LogicalVolume,
    MachineFacts,
    Nic,
    Part,
    ShipmentId,
)
from appliance.report import document
from appliance.report.document import Report, Signed, sign
from appliance.seal.certificate import Delivered, Erased, KnownBy
from appliance.seal.identity import Device
from appliance.seal.papers import MAX_TEXT

T = TypeVar("T")
NOBODY = "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA"


def filled(kind: type[T], text: str, **more: object) -> T:
    """A dataclass of the document; ``text`` stands wherever a foreign text may."""
    hints = get_type_hints(kind, include_extras=True)
    assert is_dataclass(kind)
    made: dict[str, Any] = {one.name: _value(hints[one.name], text) for one in fields(kind)}
    return kind(**made | more)


def _value(hint: Any, text: str) -> object:  # noqa: ANN401 - a type hint
    if get_origin(hint) is Annotated:
        return _KINDS[hint](text)
    if get_origin(hint) is UnionType:
        return _value(get_args(hint)[0], text)
    if get_origin(hint) is tuple:
        return (_value(get_args(hint)[0], text),)
    if hint is DiskFacts:
        part = Part(1, 1 << 20, 1 << 30, text, text, text, text, text, text)
        return DiskFacts(text, text, text, text, 1 << 31, 512, 4096, text, text, "uefi", (part,))
    if hint is Erased:
        return None
    return inside(text) if hint is MachineFacts else filled(hint, text)


def inside(text: str) -> MachineFacts:
    """What a disk tells of a machine; ``text`` wherever a foreign one may stand."""
    text = text[:MAX_TEXT]
    return MachineFacts(
        hostname=text,
        family="windows",
        product=text,
        version=text,
        architecture=text,
        kernels=(text, text),
        nics=(Nic(text, text, (text,), text, (text,), Answer.YES),),
        firmware="bios",
        dirty=Answer.YES,
        hibernated=Answer.NO,
        encrypted=(Encrypted(text, "luks"),),
        volumes=(LogicalVolume(text, text, 1 << 30),),
        file_systems=(FileSystem(text, text, text, 1 << 31, 1 << 30),),
        warnings=(text,),
        method="blkid",
        reason=text,
    )


def erased(signer: str, shipment: ShipmentId, root: str, place: str = "/srv/store") -> Erased:
    """A store that was checked, and erased."""
    return Erased(
        erasure="ab" * 16,
        shipment=shipment,
        label="test",
        signer=signer,
        root=root,
        sequence=1,
        known_by=KnownBy.SEAL,
        place=place,
        packs=3,
        size=1234,
        delivered=Delivered.CHECKED,
        told=(),
        began="2026-11-23T08:00:00Z",
        ended="2026-11-23T08:00:01Z",
    )


_KINDS: Mapping[Any, Callable[[str], object]] = {
    document.Text: lambda text: text,
    document.Texts: lambda text: (text,),
    document.Time: lambda _: "2026-11-23T08:15:30Z",
    document.Ship: lambda _: "ab" * 16,
    document.Id: lambda _: "cd" * 16,
    document.Root: lambda _: "ef" * 32,
    document.Print: lambda _: NOBODY,
    document.Count: lambda _: 7,
    document.Maybe: lambda _: 12_345_678_901,
    document.Flag: lambda _: True,
}


def full(device: Device, text: str = "web01") -> Signed:
    """Signed by the device; of all lists there is one entry, but no erase."""
    made = filled(Report, text, erasures=(), gathered_by=device.fingerprint)
    return sign(made, device)


def signed_anew(signed: Signed, device: Device, **changes: object) -> Signed:
    return sign(replace(signed.report, **changes), device)  # type: ignore[arg-type]
