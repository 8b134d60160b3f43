"""What a disk tells of its machine, in rows that people read: on a console and in the report."""

from collections.abc import Callable, Iterator
from pathlib import PurePath

from appliance.language import Translator, marked
from appliance.model import Answer, DiskFacts, FileSystem, MachineFacts, Nic

_FIRMWARE = {"uefi": "UEFI", "bios": "BIOS", "unknown": marked("not known")}
_ANSWERS = {
    Answer.YES: marked("yes"),
    Answer.NO: marked("no"),
    Answer.UNKNOWN: marked("not known"),
}
_CIPHERS = {"luks": "LUKS", "bitlocker": "BitLocker"}


def model(disk: DiskFacts, _: Translator) -> str:
    """What kind of disk it is: foreign text, but where it is an image file."""
    name = PurePath(disk.source).name
    of_a_file = disk.bus == "file" and disk.model == f"image file {name}"
    return _("image file {name}").format(name=name) if of_a_file else disk.model


def rows(
    found: MachineFacts, _: Translator, size: Callable[[int], str]
) -> Iterator[tuple[str, str]]:
    """Name and value of what is known, in the reader's language; texts are foreign."""
    system = " ".join(one for one in (found.product, found.version) if one)
    for name, told in (
        (_("host name"), found.hostname),
        (_("system"), ", ".join(one for one in (system, found.architecture) if one)),
        (_("kernels"), ", ".join(found.kernels)),
    ):
        if told:
            yield name, told
    yield _("firmware"), _(_FIRMWARE[found.firmware])
    if found.family == "windows":
        yield _("hibernated"), _(_ANSWERS[found.hibernated])
        yield _("clean"), _(_ANSWERS[_OPPOSITE[found.dirty]])
    yield from ((_("network"), _nic(one, _)) for one in found.nics)
    yield from ((_("file system"), _system(one, _, size)) for one in found.file_systems)
    for volume in found.volumes:
        yield _("LVM"), f"{volume.group}/{volume.name}, {size(volume.size)}"
    for cipher in found.encrypted:
        yield _("encrypted"), f"{cipher.place}: {_CIPHERS[cipher.kind]}"


_OPPOSITE = {Answer.YES: Answer.NO, Answer.NO: Answer.YES, Answer.UNKNOWN: Answer.UNKNOWN}


def _nic(one: Nic, _: Translator) -> str:
    told = [one.name, one.mac, *one.addresses]
    if one.dhcp is Answer.YES:
        told.append("DHCP")
    if one.gateway:
        told.append(_("gateway {address}").format(address=one.gateway))
    if one.dns:
        told.append("DNS " + " ".join(one.dns))
    return ", ".join(each for each in told if each)


def _system(one: FileSystem, _: Translator, size: Callable[[int], str]) -> str:
    told = [f"{one.place}: {one.type}", one.label, size(one.size)]
    if one.used is not None:
        told.append(_("{size} in use").format(size=size(one.used)))
    return ", ".join(each for each in told if each)
