"""What a report says is what store, targets and jobs say, and what they do not say is a gap."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from appliance import jobs
from appliance.catchup.wire import Form
from appliance.cloud.local import LocalTarget
from appliance.errors import (
    CertificateRefusedError,
    RestoredHurtError,
    VolumeForeignError,
    WrongKeyError,
)
from appliance.events import Event, Failed, Json, Progress, Result
from appliance.model import DiskId, Extent, JobId, ShipmentId
from appliance.report.document import Range, Report, Signed, parse, sign
from appliance.report.gather import gather
from appliance.report.told import Job, work
from appliance.seal import canon, certificate, custody, machine, sealing, verify
from appliance.seal.accepted import Accepted
from appliance.seal.custody import Custody, Deed, What, Who
from appliance.seal.identity import Device
from appliance.seal.keys import PrivateKey
from appliance.seal.opening import disks_of
from appliance.seal.papers import write_disk_head
from appliance.seal.store import SEAL, Store
from appliance.state import JobState, SourceRow, State
from tests.line import part, two_ends
from tests.reports import erased as erased_store
from tests.reports import inside
from tests.support import (
    BLOCK,
    OPERATOR,
    STRANGER,
    MemoryDisk,
    PowerCutError,
    new_store,
    point,
    put_blocks,
    sample_bytes,
    seal_it,
)
from tests.technician import Sent, Shell, disk_id, noise, restore_spec, sealed_disks
from tests.test_jobs_restore import TINY, desk, flip

DISK = disk_id("web01")


def told_by(
    shell: Shell,
    store: Store | None,
    place: Path | None = None,
    key: PrivateKey | None = None,
    others: Sequence[Signed] = (),
    shipment: ShipmentId | None = None,
) -> Report:
    """The report of one home, as it is read back."""
    about = shipment or (store.head.shipment if store else ShipmentId("ab" * 16))
    targets = {("local", str(place)): LocalTarget(str(place))} if place else {}
    device = Device.of(shell.home)
    with shell.state() as state:
        made = gather(state, device.fingerprint, about, store, targets, key, others)
    return parse(sign(made, device).encode()).report


def signed(shell: Shell, report: Report) -> Signed:
    return sign(report, Device.of(shell.home))


def ended(
    state: State,
    kind: str,
    told: Sequence[Event] = (),
    *,
    shipment: str = "",
    spec: str = "{}",
    at: str = "2026-11-23T08:00:00Z",
    until: str = "2026-11-23T08:00:10Z",
) -> JobId:
    """A job that has told this, and has ended."""
    job = state.add_job(kind, ShipmentId(shipment), kind, spec, at)
    for one in told:
        state.put_event(job, at, one)
    state.end_job(job, JobState.FINISHED, until)
    return job


@pytest.fixture
def sent(tmp_path: Path) -> Sent:
    """Two machines."""
    data = noise(12 * BLOCK) + bytes(3 * BLOCK) + noise(BLOCK)
    return sealed_disks(tmp_path, TINY, web01=data, db01=bytes(4 * BLOCK) + noise(BLOCK))


def restored(shell: Shell, sent: Sent, place: Path, *, accept: bool = False) -> None:
    """A restore in this process, noted as the job that it is."""
    spec = replace(restore_spec(sent, place), accept_damage=accept)
    with desk(shell) as (one, told):
        try:
            jobs.restore(spec, one)
        finally:
            shipment = sent.store.head.shipment
            ended(one.state, "restore", told, shipment=shipment, spec=jobs.dump_spec(spec))


# --- shipment, seal and disks --------------------


def test_without_a_key_the_disks_are_counted_and_nothing_more_is_said(
    operator: Shell, sent: Sent
) -> None:
    found = told_by(operator, sent.store)
    seal, ship = found.shipment.seal, found.shipment
    assert seal is not None
    assert (seal.root, seal.sequence) == (sent.seal.root().hex(), sent.seal.sequence)
    assert (seal.packs, seal.size) == (
        len(sent.seal.packs),
        sum(one.size for one in sent.seal.packs),
    )
    assert not seal.accepted_here
    assert [one.fingerprint for one in ship.readers] == list(sent.seal.recipients)
    assert (ship.label, ship.device) == ("test", sent.seal.device_fingerprint)
    assert {one.disk for one in found.disks} == {DISK, disk_id("db01")}
    for one in found.disks:
        assert (one.state, one.machine, one.facts, one.content) == ("complete", "", None, None)
        assert one.packs == len(sent.packs("web01" if one.disk == DISK else "db01"))
    assert (found.jobs, found.volumes, found.gaps) == ((), (), ())


def test_with_a_key_every_disk_is_told_as_its_manifest_tells_it(
    operator: Shell, sent: Sent
) -> None:
    found = told_by(operator, sent.store, key=OPERATOR)
    sealed = verify.inspect(sent.path, verify.Pins())
    maps = {one.disk: one.open(OPERATOR) for one in disks_of(sealed, OPERATOR)}
    assert len(maps) == 2
    for disk in found.disks:
        right, content = maps[disk.disk], disk.content
        assert content is not None
        assert (disk.machine, disk.facts) == (right.spec.machine, right.spec.facts)
        assert content.root == right.manifest.root().hex()
        assert content.data + content.zero == right.manifest.blocks
        assert (content.known_by, content.unknown, content.unreadable) == ("index", 0, 0)


def test_what_a_disk_tells_of_its_machine_is_known_before_the_seal_and_with_a_key(
    device: Shell, operator: Shell, tmp_path: Path
) -> None:
    facts, data = inside("web01"), sample_bytes()
    store, signer = new_store(tmp_path)
    spec = point(data, DISK, "web01")
    put_blocks(store, data, spec)
    with device.state() as state:
        state.note_machine(
            store.head.shipment, spec.disk, canon.dump(machine.write(facts)).decode()
        )
    assert [one.inside for one in told_by(device, store).disks] == [facts]
    notes = [machine.as_note(spec.disk, facts)]
    sealing.seal(
        store, signer, {(spec.disk, 0): spec}, sealing.Consent(waiver="a test"), notes=notes
    )
    assert [one.inside for one in told_by(operator, store).disks] == [None]
    mine = told_by(operator, store, key=OPERATOR)
    assert [one.inside for one in mine.disks] == [facts]
    other = told_by(device, store, others=[signed(operator, mine)])
    assert [one.inside for one in other.disks] == [facts]


def test_nonsense_in_the_database_about_a_machine_is_a_gap(device: Shell, tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    put_blocks(store, sample_bytes(), point(sample_bytes(), DISK, "web01"))
    with device.state() as state:
        state.note_machine(store.head.shipment, DiskId(DISK), "{}")
    found = told_by(device, store)
    assert [one.inside for one in found.disks] == [None]
    assert [one for one in found.gaps if "machine facts" in one]


def test_the_wrong_key_is_refused(operator: Shell, sent: Sent) -> None:
    with pytest.raises(WrongKeyError):
        told_by(operator, sent.store, key=STRANGER)


def test_what_was_proved_here_is_known_without_a_key(
    operator: Shell, sent: Sent, tmp_path: Path
) -> None:
    restored(operator, sent, tmp_path / "to")
    found, keyed = (told_by(operator, sent.store, key=one) for one in (None, OPERATOR))
    for one, other in zip(found.disks, keyed.disks, strict=True):
        assert one.content is not None
        assert other.content is not None
        assert (one.machine, one.facts, one.content.root) == (
            other.machine,
            other.facts,
            other.content.root,
        )
        assert (one.content.known_by, other.content.known_by) == ("proved", "proved")
        assert (one.content.unit, other.content.unit) == (BLOCK, 1)


def test_a_seal_that_was_accepted_here_is_told_as_such(operator: Shell, sent: Sent) -> None:
    Accepted(operator.home).accept(sent.seal)
    seal = told_by(operator, sent.store).shipment.seal
    assert seal is not None
    assert seal.accepted_here


def test_what_a_verification_found_authentic_was_accepted(operator: Shell, sent: Sent) -> None:
    """A newer seal of the device may have taken its place in the book."""
    with operator.state() as state:
        figures: dict[str, Json] = {
            "trust": "authentic",
            "root": sent.seal.root().hex(),
            "bytes": 5,
        }
        shipment = sent.store.head.shipment
        ended(state, "verify", [Result("verify", dict(figures))], shipment=shipment)
        assert told_by(operator, sent.store).shipment.seal.accepted_here  # type: ignore[union-attr]
        other = Result("verify", {**figures, "root": "00" * 32})
    with Shell(operator.home.with_name("another")).state() as state:
        ended(state, "verify", [other], shipment=shipment)
    another = Shell(operator.home.with_name("another"))
    assert not told_by(another, sent.store).shipment.seal.accepted_here  # type: ignore[union-attr]


# --- half of a shipment, and damaged ones --------------------


def test_a_half_finished_shipment_is_told_as_far_as_it_came(
    operator: Shell, tmp_path: Path
) -> None:
    store, _ = new_store(tmp_path)
    whole, cut = sample_bytes(1), noise(60 * BLOCK)
    put_blocks(store, whole, point(whole))
    half = point(cut, "22" * 16, "db01")
    for at in (25, 55):
        with pytest.raises(PowerCutError):
            put_blocks(store, cut, half, cut_at=at)
    with operator.state() as state:
        facts = canon.dump(write_disk_head(half)).decode()
        state.note_source(store.head.shipment, SourceRow(half.disk, 0, facts, bytes(32)))
    found = told_by(operator, store)
    assert found.shipment.seal is None
    first, second = found.disks
    assert (first.state, first.machine) == ("complete", "")
    assert (second.state, second.machine, second.facts) == ("incomplete", "db01", half.facts)
    assert [one.session for one in second.splices] == [1]
    keyed = told_by(operator, store, key=OPERATOR)
    assert keyed.disks[0].content is not None
    assert keyed.disks[0].content.data


def test_a_disk_that_has_only_begun_is_there(operator: Shell, tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    with pytest.raises(PowerCutError):
        put_blocks(store, noise(9 * BLOCK), point(noise(9 * BLOCK)), cut_at=6)
    (disk,) = told_by(operator, store).disks
    assert (disk.disk, disk.state, disk.packs) == ("11" * 16, "incomplete", None)


def test_unreadable_ranges_are_told_to_the_byte(operator: Shell, tmp_path: Path) -> None:
    store, device = new_store(tmp_path)
    data, bad = sample_bytes(), [Extent(1000, 512), Extent(1512, 100), Extent(4 * BLOCK, 4096)]
    put_blocks(store, data, point(data), bad=bad)
    seal_it(store, device, point(data))
    content = told_by(operator, store, key=OPERATOR).disks[0].content
    assert content is not None
    assert content.ranges == (Range(1000, 612), Range(4 * BLOCK, 4096))
    assert (content.unreadable_bytes, content.range_count, content.unit) == (4708, 2, 1)
    assert content.unreadable == 2


def test_where_only_blocks_are_known_they_stand_for_their_bytes(
    operator: Shell, tmp_path: Path
) -> None:
    store, device = new_store(tmp_path)
    data = sample_bytes()
    bad = [Extent(BLOCK + 5, 10), Extent(2 * BLOCK + 1, 1), Extent(len(data) - 2, 2)]
    put_blocks(store, data, point(data), bad=bad)
    sent = Sent(store, seal_it(store, device, point(data)), {"web01": data})
    restored(operator, sent, tmp_path / "to")
    content = told_by(operator, store).disks[0].content
    assert content is not None
    last = len(data) // BLOCK * BLOCK
    assert content.ranges == (Range(BLOCK, 2 * BLOCK), Range(last, len(data) - last))
    assert content.unit == BLOCK


def test_a_pack_that_is_lost_leaves_a_gap_and_not_a_refusal(operator: Shell, sent: Sent) -> None:
    gone = sent.packs("web01")[1]
    gone.unlink()
    found = told_by(operator, sent.store, key=OPERATOR)
    assert any(gone.name in one for one in found.gaps)
    assert {one.disk for one in found.disks} == {DISK, disk_id("db01")}
    assert found.shipment.seal is not None


def test_a_pack_whose_index_is_damaged_is_told_at_its_disk(operator: Shell, sent: Sent) -> None:
    hit = sent.packs("web01")[1]
    flip(hit, hit.stat().st_size - 5000)
    (disk,) = (
        one for one in told_by(operator, sent.store, key=OPERATOR).disks if one.disk == DISK
    )
    assert len(disk.lost) == 1
    assert disk.content is not None
    assert disk.content.unknown > 0


def test_a_damaged_seal_leaves_the_shipment_without_one(operator: Shell, sent: Sent) -> None:
    path = sent.path / SEAL
    path.write_bytes(path.read_bytes().replace(b'"sequence":1', b'"sequence":2'))
    found = told_by(operator, sent.store)
    assert found.shipment.seal is None
    assert any("signature of the seal" in one for one in found.gaps)
    assert len(found.disks) >= 2


def test_a_damaged_pack_of_an_unsealed_shipment_is_a_gap(operator: Shell, tmp_path: Path) -> None:
    store, _ = new_store(tmp_path)
    data = noise(30 * BLOCK)
    put_blocks(store, data, point(data))
    path = next(store.closed())
    path.write_bytes(path.read_bytes()[:100])
    found = told_by(operator, store, key=OPERATOR)
    assert len(found.gaps) >= 1
    assert len(found.disks) == 1


# --- volumes, repairs and points --------------------


def test_volumes_are_told_by_their_tags_and_the_last_check(
    operator: Shell, sent: Sent, tmp_path: Path
) -> None:
    place = tmp_path / "to"
    restored(operator, sent, place)
    found = told_by(operator, sent.store, place)
    roots = {one.disk: one.content.root for one in found.disks if one.content}
    assert len(found.volumes) == 2
    for one in found.volumes:
        assert (one.state, one.wrong, one.unknown) == ("checked", 0, 0)
        assert one.checked_root == roots[one.disk]
        assert one.origin == sent.seal.root().hex()
        assert Path(one.location).stat().st_size == one.size
    (work,) = found.jobs
    assert (work.kind, work.state) == ("restore", "finished")
    assert work.read == sum(one.stat().st_size for name in sent.disks for one in sent.packs(name))
    assert (work.seconds, work.rate) == (10, None)  # no process of its own: it never ran


def test_volumes_of_other_shipments_are_not_told(
    operator: Shell, sent: Sent, tmp_path: Path
) -> None:
    place = tmp_path / "to"
    (tmp_path / "other").mkdir()
    restored(operator, sealed_disks(tmp_path / "other", TINY, mail=noise(3 * BLOCK)), place)
    assert told_by(operator, sent.store, place).volumes == ()


def test_a_target_that_refuses_is_a_gap(operator: Shell, sent: Sent, tmp_path: Path) -> None:
    restored(operator, sent, tmp_path / "to")
    one = next((tmp_path / "to").glob("*.json"))
    one.write_text("{}")
    with pytest.raises(VolumeForeignError):
        LocalTarget(str(tmp_path / "to")).volumes()
    found = told_by(operator, sent.store, tmp_path / "to")
    assert any(one.name in gap for gap in found.gaps)


def test_lost_blocks_are_told_until_a_round_has_sent_them(tmp_path: Path) -> None:
    """A real restore despite damage, and a real round."""
    data = noise(24 * BLOCK)
    sent = sealed_disks(tmp_path, TINY, web01=data)
    gate, place = Shell(tmp_path / "gate"), tmp_path / "volumes"
    path = sent.packs("web01")[2]
    flip(path, path.stat().st_size // 2)
    with pytest.raises(RestoredHurtError):
        restored(gate, sent, place, accept=True)
    (repair,) = told_by(gate, sent.store, place).repairs
    assert (repair.disk, repair.lost, repair.left) == (DISK, 1, 1)
    assert any(path.name in why for why in repair.why)
    with two_ends(tmp_path) as ends:
        figures = ends.invite().round(part(MemoryDisk(data), ends.held(DISK).told()))
        with gate.state() as state:
            ended(state, "gate", [one for one in ends.told if isinstance(one, Result)])
    with Shell(tmp_path / "source").state() as state:
        round_ = Result("round", {**asdict(figures), "form": "fuzzy"})
        outlook = Result("outlook", {"next_seconds": 1.25})
        ended(state, "catch-up", [round_, outlook])
    source = Shell(tmp_path / "source")
    other = told_by(source, None, shipment=sent.store.head.shipment)
    found = told_by(gate, sent.store, place, others=[signed(source, other)])
    (repair,) = found.repairs
    assert (repair.lost, repair.left) == (1, 0)
    ends_told = {one.end: one for one in found.rounds}
    assert set(ends_told) == {"source", "gate"}
    assert ends_told["source"].roots == ends_told["gate"].roots
    assert ends_told["source"].machine == ends_told["gate"].machine == "web01"
    assert (ends_told["source"].lag_ms, ends_told["source"].sent) == (1250, figures.sent)
    assert ends_told["gate"].written == figures.changed
    assert [one.signer for one in found.sources] == [Device.of(source.home).fingerprint]
    assert {one.kind for one in found.jobs} == {"restore", "gate", "catch-up"}


def test_what_was_lost_is_there_once_a_whole_copy_was_restored(tmp_path: Path) -> None:
    sent = sealed_disks(tmp_path, TINY, web01=noise(24 * BLOCK))
    gate, place = Shell(tmp_path / "gate"), tmp_path / "volumes"
    path = sent.packs("web01")[2]
    whole = path.read_bytes()
    flip(path, len(whole) // 2)
    with pytest.raises(RestoredHurtError):
        restored(gate, sent, place, accept=True)
    path.write_bytes(whole)
    restored(gate, sent, place)
    found = told_by(gate, sent.store, place)
    assert [(one.lost, one.left) for one in found.repairs] == [(1, 0)]
    assert [one.wrong for one in found.volumes] == [0]


def test_points_and_cut_overs_are_told_with_both_ends_roots(tmp_path: Path) -> None:
    data = noise(6 * BLOCK)
    sent = sealed_disks(tmp_path, TINY, web01=data)
    gate, place = Shell(tmp_path / "gate"), tmp_path / "volumes"
    restored(gate, sent, place)
    with two_ends(tmp_path) as ends:
        disk = MemoryDisk(data)
        disk.data[:BLOCK] = noise(BLOCK)
        sender = part(disk, ends.held(DISK).told())
        figures = ends.invite().round(sender, form=Form.QUIESCED)
    with gate.state() as state:
        final: dict[str, Json] = {
            "point": 1,
            "kept": True,
            "downtime": 0.75,
            "frozen": ["/srv"],
            "loose": [],
        }
        mine = Result("round", {**asdict(figures), "form": "quiesced"})
        ended(state, "catch-up", [mine, Result("final", dict(final))])
        stopped = Result("final", {**final, "downtime": 0.0, "frozen": []})
        ended(state, "catch-up", [mine, stopped])
        strange = {**asdict(figures), "form": "fuzzy", "roots": {"77" * 16: "00" * 32}}
        other = [Result("round", strange), Result("outlook", {"next_seconds": 9}), stopped]
        ended(state, "catch-up", other)  # of a disk of another shipment
        ended(state, "catch-up", [mine, *other])  # it was given both
    found = told_by(gate, sent.store, place)
    (kept,) = found.points
    assert (kept.machine, kept.point, kept.form) == ("web01", 1, "quiesced")
    assert (kept.complete, kept.chosen, kept.taken) == (True, False, "2026-09-21T14:13:20Z")
    assert {one.disk: one.root for one in kept.roots} == figures.roots
    assert [one.downtime_ms for one in found.cut_overs] == [750, None]
    assert [one.lag_ms for one in found.rounds] == [None] * 3
    assert {(one.machine, one.sent) for one in found.cut_overs} == {("web01", figures.sent)}
    assert [one.kind for one in found.jobs].count("catch-up") == 3
    (tag,) = (place / "points").rglob("*.json")
    tag.write_bytes(tag.read_bytes().replace(b"1790000000", b"9007199254740992"))
    (absurd,) = told_by(gate, sent.store, place).points
    assert absurd.taken == ""


# --- jobs, as the database tells them --------------------


def test_a_job_says_what_it_moved_how_long_it_took_and_how_it_ended(
    operator: Shell, sent: Sent
) -> None:
    shipment = sent.store.head.shipment
    place = operator.home.with_name("to")
    restored(operator, sent, place)
    with operator.state() as state:
        ended(state, "check", [Result("check", {"volume": "x"})], shipment=shipment, spec="[")
        told = [Result("ingest", {"size": 4_000_000_000, "written": 1_000_000_000})]
        job = ended(state, "ingest", told, shipment=shipment)
        broken = ended(state, "verify", shipment=shipment)
        words = Failed("pack-damaged", 32, "Pack x is not what was sealed", "Safe.", "Do.")
        state.end_job(broken, JobState.FAILED, "2026-11-23T08:00:10Z", words)
        dropped = ended(state, "verify", shipment=shipment)
        state.end_job(dropped, JobState.FAILED, "2026-11-23T08:00:10Z", words)
        state.resolve_job(dropped)
        living = state.add_job("restore", shipment, "r", "{}", "2026-11-23T09:00:00Z")
        state.put_progress(living, 0.0, Progress("restore", 77, 100))
        odd = ended(
            state, "check", [Result("check", {"size": "7", "wrong": 1})], shipment=shipment
        )
        ran = replace(state.job(job), run=1)
        assert work(Job(ran, state.events(job), None), "x").rate == 400_000_000
    found = {one.job: one for one in told_by(operator, sent.store, place).jobs}
    one = found[job]
    assert (one.read, one.written, one.seconds) == (4_000_000_000, 1_000_000_000, 10)
    failure = found[broken].failure
    assert failure is not None
    assert (failure.name, failure.code, failure.what) == (words.error, 32, words.what)
    assert (failure.safe, failure.todo) == ("Safe.", "Do.")
    since = found[dropped].failure
    assert since is not None
    assert (since.what, since.safe) == (words.what, "Nothing of it is kept.")
    assert since.todo == "Start a new job where you want one."
    assert (found[living].seconds, found[living].read, found[living].ended) == (None, 77, "")
    assert (found[odd].read, found[odd].rate) == (None, None)


def test_a_gate_has_no_rate_and_waits_are_no_work(operator: Shell) -> None:
    with operator.state() as state:
        job = ended(state, "gate", [Result("disk", {"disk": DISK, "written": 5000})])
        told = Job(replace(state.job(job), run=1), state.events(job), None)
    assert (work(told, "x").written, work(told, "x").rate) == (5000, None)


def test_what_another_home_tells_now_takes_the_place_of_what_it_told_before(
    operator: Shell, device: Shell, sent: Sent
) -> None:
    shipment = sent.store.head.shipment
    with device.state() as state:
        ended(state, "ingest", shipment=shipment)
        early = replace(told_by(device, sent.store, key=OPERATOR), created="2026-11-23T08:00:00Z")
        ended(state, "seal", shipment=shipment)
        late = replace(told_by(device, sent.store), created="2026-11-23T09:00:00Z")
    with operator.state() as state:
        ended(state, "verify", shipment=shipment)
    both = [signed(device, late), signed(device, early)]
    found = told_by(operator, None, others=both, shipment=shipment)
    assert sorted(one.kind for one in found.jobs) == ["ingest", "seal", "verify"]
    assert [one.machine for one in found.disks] == ["db01", "web01"]  # the early one had a key
    assert found.shipment.seal is not None
    assert {one.digest for one in found.sources} == {one.digest() for one in both}
    again = told_by(operator, None, others=[signed(operator, found)], shipment=shipment)
    assert sorted(one.kind for one in again.jobs) == ["ingest", "seal", "verify"]


def test_a_home_that_knows_nothing_says_nothing(operator: Shell) -> None:
    found = told_by(operator, None)
    assert (found.disks, found.jobs, found.shipment.seal) == ((), (), None)
    assert found.shipment.label == ""


# --- custody --------------------


def held(shell: Shell, sent: Sent, name: str) -> Custody:
    return Custody(shell.home, sent.store.head.shipment, Who(name, "ACME"), "Berlin")


def test_custody_is_told_as_the_store_has_it_and_verified(
    operator: Shell, device: Shell, sent: Sent
) -> None:
    assert told_by(operator, sent.store).custody is None
    root = sent.seal.root().hex()
    giver, taker = held(device, sent, "Ada"), held(operator, sent, "Ben")
    custody.append(giver, sent.path, Deed.HANDED_OVER, root, What(to=Who("Ben", "ACME")))
    custody.append(taker, sent.path, Deed.RECEIVED, root)
    found = told_by(operator, sent.store).custody
    assert found is not None
    first, second = found.records
    assert (first.deed, first.name, first.to) == ("handed-over", "Ada", "Ben, ACME")
    assert (second.deed, second.where, second.genuine) == ("received", "Berlin", True)
    assert second.signer == Device.of(operator.home).fingerprint
    assert {(one.kind, one.error) for one in found.flaws} == {
        ("begins-late", False),
        ("lacks-seal", False),
    }


def test_a_copy_at_home_shows_what_was_cut_off_or_changed(operator: Shell, sent: Sent) -> None:
    root, mine = sent.seal.root().hex(), held(operator, sent, "Ada")
    for done in (Deed.VERIFIED, Deed.CHECKED):
        custody.append(mine, sent.path, done, root)
    last = sent.path / "custody" / "000002.json"
    whole = last.read_bytes()
    last.unlink()
    found = told_by(operator, sent.store).custody
    assert found is not None
    assert [one.deed for one in found.records] == ["verified", "checked"]  # from home
    last.write_bytes(whole.replace(b"Berlin", b"Bremen"))
    found = told_by(operator, sent.store).custody
    assert found is not None
    assert [(one.kind, one.number) for one in found.flaws if one.error] == [
        ("fork", 2),
        ("bad-signature", 2),  # of the store's
    ]
    assert [one.genuine for one in found.records] == [True, True]


def test_custody_that_cannot_be_read_is_a_gap(operator: Shell, sent: Sent) -> None:
    (sent.path / "custody").symlink_to(sent.path)
    found = told_by(operator, sent.store)
    assert found.custody is None
    assert any("custody" in one for one in found.gaps)


def test_custody_is_taken_over_from_who_has_it(operator: Shell, device: Shell, sent: Sent) -> None:
    custody.append(held(device, sent, "Ada"), None, Deed.SEALED, sent.seal.root().hex())
    shipment = sent.store.head.shipment
    other = signed(device, told_by(device, None, shipment=shipment))
    found = told_by(operator, None, others=[other], shipment=shipment).custody
    assert found is not None
    assert [one.deed for one in found.records] == ["sealed"]


# --- certificates --------------------


def test_an_erase_is_told_as_its_certificate_tells_it(operator: Shell, sent: Sent) -> None:
    shipment, device = sent.store.head.shipment, Device.of(operator.home)
    erased = erased_store(sent.seal.device, shipment, sent.seal.root().hex())
    made = certificate.Certificate(
        device.public, "A. Person", "2026-11-23T08:00:02Z", "system", (erased,)
    )
    data = certificate.sign(made, device)
    with operator.state() as state:

        def told(about: ShipmentId, *papers: bytes) -> Report:
            return gather(state, device.fingerprint, about, None, {}, certificates=papers)

        found = parse(sign(told(shipment, data, data), device).encode()).report
        (one,) = found.erasures
        assert (one.erased, one.by, one.signer) == (erased, "A. Person", device.fingerprint)
        assert one.digest == certificate.digest(data)
        with pytest.raises(CertificateRefusedError, match="nothing of shipment"):
            told(ShipmentId("cd" * 16), data)
        with pytest.raises(CertificateRefusedError):
            told(shipment, data.replace(b"1234", b"1235"))
