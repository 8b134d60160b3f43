"""Makes tests/vectors/labels.json: `python -m tests.label_vectors`, from the checkout's root."""

from appliance.events import Json
from appliance.seal import canon
from appliance.seal.label import Label
from tests.promise import PLACE

FILE = PLACE / "labels.json"
_LABELS = (
    Label(bytes(range(32)), bytes(range(32, 52)), "5a01ff80"),
    Label(b"\xff" * 32, b"\xff" * 20, "ffffffff"),
    Label(bytes(32), bytes(20), "00000000"),
)


def of_label(label: Label) -> Json:
    return {
        "device": label.device.hex(),
        "root": label.root.hex(),
        "shipment": label.shipment,
        "text": str(label),
    }


def _typed(good: str) -> dict[str, str]:
    return {
        "As a scanner types it: lower case, a line end": good.lower() + "\r\n",
        "With the symbology in front, and a tab": f"]Q1{good}\t",
        "In groups, by hand": " ".join(good[at : at + 4] for at in range(0, len(good), 4)),
        "With dashes": "-".join((good[:3], good[3:55], good[55:])),
        "With digits that are not used, for the letters they look like": good[:3]
        + good[3:].translate(str.maketrans("OIB", "018")),
    }


def _refused(good: str) -> list[tuple[str, str, str]]:
    other = "B" if good[40] == "A" else "A"
    swapped = good[:50] + good[51] + good[50] + good[52:]
    assert swapped != good
    return [
        ("Nothing", "", "bad-input"),
        ("Another thing", "https://example.net/", "bad-input"),
        ("A seal root alone", good[3:55], "bad-input"),
        ("One letter is another", good[:40] + other + good[41:], "bad-input"),
        ("Two letters changed places", swapped, "bad-input"),
        ("One letter is missing", good[:-1], "bad-input"),
        ("One letter more", good + "A", "bad-input"),
        ("It came twice", good + good, "bad-input"),
        ("A digit that base32 does not have", good[:40] + "9" + good[41:], "bad-input"),
        ("Padding", good[:-8] + "=" * 8, "bad-input"),
        ("A letter that becomes another one in upper case", good[:98] + "\u017f", "bad-input"),
        ("A later version", "MG2" + good[3:], "unknown-format"),
        ("A later version, of another length", "mg7abc", "unknown-format"),
    ]


def document() -> Json:
    good = str(_LABELS[0])
    return {
        "labels": [of_label(one) for one in _LABELS],
        "refused": [
            {"about": about, "refused": name, "typed": typed}
            for about, typed, name in _refused(good)
        ],
        "typed": [
            {"about": about, "text": good, "typed": typed} for about, typed in _typed(good).items()
        ],
    }


def make() -> None:
    FILE.write_bytes(canon.dump(document()).replace(b'{"', b'\n{"') + b"\n")


if __name__ == "__main__":
    make()
