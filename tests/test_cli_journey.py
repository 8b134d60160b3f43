"""The whole path through the real command, every verb a process of its own."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ExistsError, IncompleteDiskError
from tests.media import Bench
from tests.support import BLOCK, sample_bytes
from tests.technician import PASSPHRASE, Keys, Said, Shell, noise, sealed_disks

WORDS = "a passphrase of several words"


def label_of(said: Said) -> dict[str, str]:
    """What `seal` prints for the label."""
    found = re.findall(r"^  (device|seal root|in words|sequence) +(.*)$", said.out, re.MULTILINE)
    return dict(found)


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", one, other], check=False).returncode == 0


@dataclass(frozen=True)
class Places:
    """Where things lie on this journey."""

    store: Path
    goal: Path
    key: Path
    safe: Path
    web: Path
    database: Path

    @classmethod
    def below(cls, top: Path) -> "Places":
        names = ("store", "volumes", "op.key", "safe.key", "web.img", "db.img")
        return cls(*(top / one for one in names))


def test_two_servers_travel_from_their_disks_to_volumes(
    tmp_path: Path, device: Shell, operator: Shell, bench: Bench
) -> None:
    at = Places.below(tmp_path)
    at.web.write_bytes(sample_bytes(1))
    at.database.write_bytes(noise(3 * BLOCK) + bytes(5 * BLOCK))
    prepare(at, device, operator)
    ingest_both(at, device, bench)
    label = seal(at, device)
    pins = verify(at, operator, label)
    restore(at, operator, pins)
    recover(at, operator)


def prepare(at: Places, device: Shell, operator: Shell) -> None:
    """Keys at the operator's, a shipment on the device, and proof that one opens the other."""
    made = operator.run("keys", "new", "Olga", "--out", at.key, passphrase=WORDS).fine()
    assert str(at.key) in made.out
    safe = ("keys", "new", "safe", "--role", "recovery", "--out", at.safe)
    operator.run(*safe, passphrase=WORDS).fine()
    shown = operator.run("keys", "show", f"{at.key}.pub").fine()
    assert "Olga (operator)" in shown.out
    fingerprint = re.findall(r"fingerprint +(\S+)", made.out)[0]
    assert fingerprint in shown.out
    assert fingerprint in operator.run("keys", "show", at.key, "--no-qr").fine().out
    assert "This device" in device.run("keys", "show").fine().out

    new = ("shipment", "new", "rack 7", "--store", at.store, "--block-size", BLOCK)
    device.run(*new, "-r", f"{at.key}.pub", "-r", f"{at.safe}.pub").fine()
    assert "rack 7  not sealed yet" in device.run("shipment", "list").fine().out
    canary = ("canary", "open", "-s", at.store, "--key", at.key)
    code = operator.run(*canary, passphrase=WORDS).fine().out.rpartition(": ")[2].strip()
    confirmed = device.run("canary", "confirm", "-s", at.store, code.lower().replace("-", " "))
    assert fingerprint in confirmed.fine().out


def ingest_both(at: Places, device: Shell, bench: Bench) -> None:
    """Two disks at once, one of them a block device."""
    node = bench.loop(at.database, "--read-only")
    assert str(node) in device.run("disks").fine().out
    for source, machine in ((at.web, "web01"), (node, "db01")):
        command = ("ingest", source, "-s", at.store, "-m", machine, "--detach")
        assert "Job " in device.run(*command).fine().out
    for job in (1, 2):
        followed = device.run("jobs", "follow", job, "--json").fine()
        assert followed.results("ingest")[0]["unreadable_bytes"] == 0
    listed = device.run("jobs", "list").fine().out
    assert listed.count("finished") == 2
    assert listed.count("100 %") == 2


def seal(at: Places, device: Shell) -> dict[str, str]:
    label = label_of(device.run("seal", "-s", at.store).fine())
    assert label["sequence"] == "1"
    shown = device.run("shipment", "show", "-s", at.store).fine()
    assert shown.out.count("complete") == 2
    assert "number 1 of its device" in shown.out
    assert "rack 7  sealed" in device.run("shipment", "list").fine().out
    return label


def verify(at: Places, operator: Shell, label: dict[str, str]) -> tuple[str, ...]:
    """Is it whole, and is it the one that was sent? Returns the pins."""
    said = operator.run("verify", "-s", at.store).fine(3)
    assert "signer not confirmed" in said.out
    spoken = ("--device", label["device"], "--seal", label["in words"])
    keyed = ("verify", "-s", at.store, *spoken, "--key", at.key)
    assert operator.run(*keyed, passphrase=WORDS).fine().out.count(": complete") == 2
    pins = ("--device", label["device"], "--seal", label["seal root"])
    assert "AUTHENTIC" in operator.run("verify", "-s", at.store, *pins).fine().out
    return pins


def restore(at: Places, operator: Shell, pins: tuple[str, ...]) -> None:
    """The disks arrive, and it is no code of ours that compares them."""
    command = ("restore", "-s", at.store, "--to", at.goal, "--key", at.key, *pins)
    assert "Plan: 2 disks" in operator.run(*command, "--plan", passphrase=WORDS).fine().out
    assert not at.goal.exists()
    done = operator.run(*command, passphrase=WORDS).fine()
    volumes = sorted(at.goal.glob("*.img"))
    assert [one.name[:5] for one in volumes] == ["db01-", "web01"]
    assert same(volumes[0], at.database)
    assert same(volumes[1], at.web)
    again = operator.run(*command, passphrase=WORDS).fine()
    assert again.out.count("Checked:") == 2
    assert again.out == done.out
    checked = operator.run("check", "-s", at.store, "--to", at.goal).fine()
    assert set(checked.out.splitlines()) <= set(done.out.splitlines())


def recover(at: Places, operator: Shell) -> None:
    """The device is lost, and so are head and seal: packs and any key are enough."""
    recovered = at.goal / "recovered"
    command = ("recover", at.store / "packs", "--key", at.safe, "-o", recovered)
    assert operator.run(*command, passphrase=WORDS).fine().out.count(": whole") == 2
    arrived = {one.read_bytes() for one in recovered.iterdir()}
    assert arrived == {at.web.read_bytes(), at.database.read_bytes()}


def test_recovery_says_what_a_lost_pack_costs(
    tmp_path: Path, operator: Shell, keyring: Keys
) -> None:
    sent = sealed_disks(tmp_path, web01=noise(40 * BLOCK))
    sent.packs("web01")[1].unlink()
    packs, out = sorted((sent.path / "packs").iterdir()), tmp_path / "out"
    recover = ("recover", *packs, "--key", keyring.operator, "-o", out)
    said = operator.typed(*recover, passphrase=PASSPHRASE).refused(IncompleteDiskError)
    missing = int(re.findall(r"NOT WHOLE, (\d+) blocks missing", said.out)[0])
    assert 0 < missing < 20
    again = operator.typed(*recover, passphrase=PASSPHRASE).refused(ExistsError)
    assert "never overwritten" in again.err


def test_recovery_goes_as_far_as_it_can_and_says_why_no_further(
    tmp_path: Path, operator: Shell, keyring: Keys
) -> None:
    data = noise(6 * BLOCK)
    sent = sealed_disks(tmp_path, web01=data)
    (pack,) = sent.packs("web01")
    with pack.open("r+b") as file:
        file.seek(4 * BLOCK)
        file.write(b"damage")
    stray = tmp_path / "stray.pack"
    stray.write_bytes(b"no pack at all")
    out = tmp_path / "out"
    recover = ("recover", pack, stray, "--key", keyring.operator, "-o", out)
    said = operator.typed(*recover, passphrase=PASSPHRASE).refused(IncompleteDiskError)
    assert "Lost: stray.pack" in said.out
    assert re.search(r"NOT WHOLE, \d blocks missing", said.out)
    assert re.search(rf"^  {pack.name}: Record 4 is damaged", said.out, re.MULTILINE)
    (image,) = out.glob("*.img")
    assert image.read_bytes()[: 2 * BLOCK] == data[: 2 * BLOCK]
