"""What is wrong with a chain of custody, in words."""

from pathlib import Path

from appliance import handover
from appliance.cli import show
from appliance.language import chosen, translator
from appliance.seal.chain import Finding


def sentence(finding: Finding) -> str:
    """One finding, in the chosen language."""
    return handover.sentence(finding, translator(chosen()))


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
