"""What a job says while it works, in words."""

from collections.abc import Mapping

from appliance.events import Json
from appliance.language import Translator, marked

# Steps of jobs, by their stable names.
_STEPS = (
    *(marked("open"), marked("inspect"), marked("ingest"), marked("read-back"), marked("sign")),
    *(marked("verify"), marked("recover"), marked("damage"), marked("plan"), marked("restore")),
    *(marked("check"), marked("freeze"), marked("listen"), marked("line"), marked("survey")),
    *(marked("compare"), marked("send"), marked("gate"), marked("wait"), marked("retain")),
    *(marked("erase"), marked("discard"), marked("look"), marked("paused"), marked("goes on")),
)


def sentence(kind: str, body: Mapping[str, Json], _: Translator) -> str:
    """An event in words; empty for those that are only for programs. Details are in English, or
    names.
    """
    match kind:
        case "step":
            step = _(str(body["step"]))
            return f"{step}: {body['detail']}" if body["detail"] else step
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
