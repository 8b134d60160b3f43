"""The document's words, as people are to read them; and foreign ones, as they are shown."""

from collections.abc import Mapping

from appliance import shown
from appliance.language import Translator, marked

ROW, FACT, CELL = 200, 120, 48  # characters of a foreign text that are shown

WORDS = {
    "": marked("not known"),
    "bad": marked("differs from the manifest"),
    "bios": "BIOS",
    "catch-up": marked("Catch up"),
    "check": marked("Check"),
    "checked": marked("checked"),
    "complete": marked("complete"),
    "crash_consistent": marked("frozen in part"),
    "died": marked("died"),
    "failed": marked("failed"),
    "finished": marked("finished"),
    "fuzzy": marked("running"),
    "gate": marked("Gate"),
    "gate-check": marked("Check of replicas"),
    "hurt": marked("lacks blocks"),
    "incomplete": marked("INCOMPLETE"),
    "ingest": marked("Ingest"),
    "operator": marked("operator"),
    "partial": marked("not restored to its end"),
    "paused": marked("paused"),
    "queued": marked("queued"),
    "quiesced": marked("at rest"),
    "recovery": marked("recovery"),
    "replica": marked("follows its source"),
    "restore": marked("Restore"),
    "restored": marked("restored"),
    "running": marked("running"),
    "seal": marked("Seal"),
    "stopped": marked("stopped"),
    "uefi": "UEFI",
    "unknown": marked("not known"),
    "verify": marked("Verify"),
}
DEEDS = {
    "created": marked("begun"),
    "ingested": marked("ingested"),
    "sealed": marked("sealed"),
    "handed-over": marked("handed over"),
    "received": marked("received"),
    "verified": marked("verified"),
    "opened": marked("opened with a key"),
    "restored": marked("restored to a volume"),
    "checked": marked("read back and compared"),
    "erased": marked("erased"),
}
CLOCKS = {
    "synchronised": marked("clock synchronised"),
    "free-running": marked("clock free-running"),
}
KNOWN_BY = {
    "index": marked("the packs' indexes, opened for this report"),
    "proved": marked("a verification of every block, or a restore, before this report"),
}


def told(say: Translator, known: Mapping[str, str], found: str) -> str:
    """A word of the document in the reader's language; a strange one as it is."""
    return say(known[found]) if found in known else foreign(found)


def foreign(found: object, most: int = CELL) -> str:
    """A foreign text on a page."""
    return elided(shown.safe(found), most)


def elided(text: str, most: int) -> str:
    """Its beginning and its end, where it is longer: the JSON has all of it."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    return f"{text[:head]}…{text[head - most + 1 :]}"
