"""What is wrong with a chain of custody, in words."""

from pathlib import Path

from appliance.cli import show
from appliance.language import chosen, marked, translator
from appliance.seal.chain import Finding, Kind

SAID: dict[Kind, str] = {
    Kind.DAMAGED: marked("is no record, or another one's"),
    Kind.BAD_SIGNATURE: marked("is not what was signed"),
    Kind.GAP: marked("is missing, though later ones are there"),
    Kind.BROKEN: marked("does not follow the record before it"),
    Kind.FORK: marked("is another one in the other copy: the chain forks"),
    Kind.TRUNCATED: marked("is missing: the other copy is longer"),
    Kind.ORDER: marked("tells a deed that cannot stand here"),
    Kind.FOREIGN: marked("belongs to another shipment"),
    Kind.OTHER_ROOT: marked("names another seal"),
    Kind.OTHER_SIGNER: marked("is not signed by the device of the shipment"),
    Kind.OTHER_RECEIVER: marked("is signed by another receiver than the one named"),
    Kind.OTHER_CODE: marked("names another code than that of the hand-over"),
    Kind.EMPTY: marked("there is no record at all"),
    Kind.CLOCK_BACKWARDS: marked("is dated before the record before it"),
    Kind.NOT_COUNTERSIGNED: marked("hands over, and nobody has signed for it"),
    Kind.SAME_SIGNER: marked("was received by the key that handed it over"),
    Kind.BEGINS_LATE: marked("is the first, and the shipment was begun before"),
    Kind.LACKS_SEAL: marked("no record says that the store was sealed"),
    Kind.AFTER_ERASED: marked("comes after the shipment was erased"),
}


def sentence(finding: Finding) -> str:
    """One finding, in the chosen language."""
    _ = translator(chosen())
    about = (
        _("record {number}").format(number=finding.number) if finding.number else _("the chain")
    )
    return f"{about}: {_(SAID[finding.kind])} ({finding.kind})"


def tell_unsound(finding: Finding) -> None:
    """Why a record is not in the store, what that means, and what to do."""
    _ = translator(chosen())
    show.line("!!  " + _("The device's chain of custody cannot be gone on from:"))
    for one in (
        sentence(finding),
        _("What was done is written down on this machine, and not lost."),
        _("Leave the device as it is, and ask whoever had it."),
        _("`custody verify` names all that is wrong."),
    ):
        show.line("    " + one)


def tell_kept_at_home() -> None:
    """The store cannot be written, and nothing is wrong with its chain."""
    _ = translator(chosen())
    show.line(_("The record is kept on this machine only: the store cannot be written."))


def tell_kept_in_store(own: Finding) -> None:
    """The copy on this machine has been damaged or changed."""
    _ = translator(chosen())
    show.line(
        "!!  " + _("This machine's own copy of the chain of custody cannot be gone on from:")
    )
    for one in (
        sentence(own),
        _("What was done is written down in the store, and not lost."),
        _("Leave this machine's copy as it is, and find out who has changed it."),
    ):
        show.line("    " + one)


def tell_not_kept(why: str) -> None:
    _ = translator(chosen())
    show.line("!!  " + _("No record of custody could be kept: {why}").format(why=why))


def tell_left_behind(source: Path, finding: Finding) -> None:
    """Not all of a chain could be brought along."""
    _ = translator(chosen())
    show.line("!!  " + _("Of the chain in {path} only a part:").format(path=source))
    show.line("    " + sentence(finding))
