"""What a job says while it works, in words."""

from collections.abc import Mapping

from appliance.events import Json
from appliance.language import Translator, marked

# What jobs do, by their stable names; which of whom says their title.
KINDS = {
    "ingest": marked("ingest"),
    "seal": marked("seal"),
    "verify": marked("verify"),
    "restore": marked("restore"),
    "check": marked("check"),
    "gate": marked("gate"),
    "gate-check": marked("check of replicas"),
    "catch-up": marked("catch-up"),
    "erase": marked("erase"),
}
# Steps of jobs, by their stable names.
_STEPS = (
    *(marked("open"), marked("inspect"), marked("ingest"), marked("read-back"), marked("sign")),
    *(marked("verify"), marked("recover"), marked("damage"), marked("plan"), marked("restore")),
    *(marked("check"), marked("freeze"), marked("listen"), marked("line"), marked("survey")),
    *(marked("compare"), marked("send"), marked("gate"), marked("wait"), marked("retain")),
    *(marked("erase"), marked("discard"), marked("look"), marked("paused"), marked("goes on")),
)
# What is said of them, beside names.
_DETAILS = frozenset(
    {
        marked("{count} packs"),
        marked("{count} blocks"),
        marked("{count} pages"),
        marked("{count} bytes"),
        marked("disk {disk}"),
        marked("disk {disk}, {count} packs"),
        marked("{machine} from {peer}"),
        marked("point {point} of {machine} was discarded"),
        marked("The gate is at work on its answer"),
        marked("all that was done so far is safe, and the job keeps what it holds"),
        marked("to open the packs takes features unknown here: {feature!r}"),
    }
)


def sentence(kind: str, body: Mapping[str, Json], _: Translator) -> str:
    """An event in words; empty for those that are only for programs."""
    match kind:
        case "step":
            step, detail = _(str(body["step"])), _detail(body, _)
            return f"{step}: {detail}" if detail else step
        case "unreadable":
            told = _("unreadable: {length} bytes at {offset}, stored as zeros")
            return told.format(length=body["length"], offset=body["offset"])
        case "spliced" if body["block"]:
            told = _("goes on at block {block} (session {session})")
            return told.format(block=body["block"], session=body["session"])
        case "spliced":
            return _("the source has changed since: the whole disk is read anew")
        case _:
            return ""


def _detail(body: Mapping[str, Json], _: Translator) -> str:
    """As it was said in English, where it is a name, or of a release that knew other sentences."""
    said, values = body.get("sentence"), body.get("values")
    if said in _DETAILS and isinstance(values, dict):
        return _(str(said)).format(**values)
    return str(body["detail"])
