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
    _tell(finding, handover.UNSOUND)
    show.line("    " + _("`custody verify` names all that is wrong."))


def tell_kept_at_home() -> None:
    """The store cannot be written, and nothing is wrong with its chain."""
    show.line(translator(chosen())(handover.AT_HOME_ONLY))


def tell_kept_in_store(own: Finding) -> None:
    """The copy on this machine has been damaged or changed."""
    _tell(own, handover.OWN_UNSOUND)


def _tell(finding: Finding, told: tuple[str, ...]) -> None:
    _ = translator(chosen())
    first, *rest = map(_, told)
    show.line("!!  " + first)
    for one in (sentence(finding), *rest):
        show.line("    " + one)


def tell_not_kept(why: str) -> None:
    _ = translator(chosen())
    show.line("!!  " + _("No record of custody could be kept: {why}").format(why=why))


def tell_left_behind(source: Path, finding: Finding) -> None:
    """Not all of a chain could be brought along."""
    _ = translator(chosen())
    show.line("!!  " + _("Of the chain in {path} only a part:").format(path=source))
    show.line("    " + sentence(finding))
