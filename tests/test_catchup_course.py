"""Course: a round that was cut goes on as the same point, and no number is used twice, whoever was
killed when.
"""

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.catchup import course as course_module
from appliance.catchup.course import Course, Leg
from appliance.catchup.wire import Form, Point
from appliance.errors import PointRefusedError, StateError
from appliance.model import DiskId
from tests.support import PowerCutError

DISKS = (DiskId("11" * 16), DiskId("22" * 16))


def asked(number: int = 1, form: Form = Form.FUZZY, *disks: DiskId) -> Point:
    return Point(number.to_bytes(16), form, 1_790_000_000, disks or DISKS)


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path, "web01")


def test_the_first_point_is_above_what_the_replicas_are_at(course: Course) -> None:
    assert course.last() is None
    assert course.begin(asked(), 7).point == 8


def test_a_point_is_kept_as_it_was_asked_for(tmp_path: Path, course: Course) -> None:
    leg = course.begin(asked(5, Form.QUIESCED), 0)
    assert leg == Leg(
        machine="web01",
        point=1,
        round=asked(5).round.hex(),
        form=Form.QUIESCED,
        taken=1_790_000_000,
        disks=DISKS,
        roots=("", ""),
        ended=False,
        kept=False,
        earlier=(),
    )
    assert Course(tmp_path, "web01").last() == leg


def test_a_round_that_was_cut_goes_on_as_the_same_point(tmp_path: Path, course: Course) -> None:
    leg = course.begin(asked(), 0)
    assert course.begin(asked(), 0) == leg
    assert Course(tmp_path, "web01").begin(asked(), leg.point) == leg


def test_a_round_begun_again_later_keeps_the_time_it_was_begun(course: Course) -> None:
    leg = course.begin(asked(), 0)
    assert course.begin(replace(asked(), taken=1_800_000_000), 0) == leg


@pytest.mark.parametrize("other", [asked(1, Form.QUIESCED), asked(1, Form.FUZZY, DISKS[0])])
def test_a_round_does_not_become_another(course: Course, other: Point) -> None:
    leg = course.begin(asked(), 0)
    with pytest.raises(PointRefusedError, match="with other disks, or otherwise"):
        course.begin(other, 0)
    assert course.last() == leg


def test_what_both_ends_agree_on_is_kept_disk_by_disk(tmp_path: Path, course: Course) -> None:
    leg = course.begin(asked(), 0)
    course.agree(leg, DISKS[1], b"2" * 32)
    course.agree(leg, DISKS[0], b"1" * 32)
    course.agree(leg, DISKS[1], b"3" * 32)
    found = Course(tmp_path, "web01").still(leg)
    assert found.roots == ((b"1" * 32).hex(), (b"3" * 32).hex())
    assert course.begin(asked(), 0) == found


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "fuzzy"])
def test_a_round_that_has_ended_is_told_so_again(course: Course, *, kept: bool) -> None:
    """Its last answer may have been lost."""
    leg = course.begin(asked(), 0)
    for _ in range(2):
        course.end(leg, kept=kept)
        assert course.begin(asked(), 0) == replace(leg, ended=True, kept=kept)
    assert course.begin(asked(2), 0).point == 2


def test_a_round_that_another_has_followed_does_nothing_more(course: Course) -> None:
    first = course.begin(asked(1), 0)
    second = course.begin(asked(2), 0)
    assert (first.point, second.point) == (1, 2)
    for refused in (
        lambda: course.end(first, kept=True),
        lambda: course.still(first),
        lambda: course.agree(first, DISKS[0], bytes(32)),
        lambda: course.begin(asked(1), 0),
    ):
        with pytest.raises(PointRefusedError, match="Another round was begun since"):
            refused()
    course.end(second, kept=False)
    with pytest.raises(PointRefusedError, match="Another round was begun since"):
        course.begin(asked(1), 0)


def test_not_every_round_that_ever_was_is_remembered(course: Course) -> None:
    for one in range(1, 100):
        course.begin(asked(one), 0)
    last = course.last()
    assert last is not None
    assert len(last.earlier) == 64
    assert last.earlier[-1] == asked(98).round.hex()


@given(reached=st.integers(0, 1 << 31), before=st.integers(0, 5))
def test_a_number_is_above_all_that_were(
    tmp_path_factory: pytest.TempPathFactory, reached: int, before: int
) -> None:
    course = Course(tmp_path_factory.mktemp("home"), "web01")
    points = [course.begin(asked(one), 0).point for one in range(before)]
    assert course.begin(asked(99), reached).point == max([reached, *points]) + 1


def test_machines_have_courses_of_their_own(tmp_path: Path, course: Course) -> None:
    other = Course(tmp_path, "web02")
    course.begin(asked(), 40)
    assert other.last() is None
    assert other.begin(asked(), 0).point == 1


def test_of_rounds_begun_at_once_each_has_a_number_of_its_own(tmp_path: Path) -> None:
    def begin(number: int) -> int:
        return Course(tmp_path, "web01").begin(asked(number), 0).point

    with ThreadPoolExecutor(8) as pool:
        points = list(pool.map(begin, range(40)))
    assert sorted(points) == list(range(1, 41))


def test_one_round_begun_at_once_by_all_its_lines_is_one_point(tmp_path: Path) -> None:
    def begin(_: int) -> Leg:
        return Course(tmp_path, "web01").begin(asked(), 0)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(begin, range(20)))) == 1


class Rounds(RuleBasedStateMachine):
    """Rounds that are begun, cut, killed while they are written down, ended; by gates that are
    made anew.
    """

    def __init__(self) -> None:
        super().__init__()
        self._home = Path(tempfile.mkdtemp())
        self._given: dict[int, int] = {}  # the point of a round, as it was told
        self._ended: list[int] = []
        self._round = 0
        self._leg: Leg | None = None

    def teardown(self) -> None:
        shutil.rmtree(self._home)

    @property
    def course(self) -> Course:
        return Course(self._home, "web01")

    @rule()
    def begin(self) -> None:
        self._round += 1
        self._leg = self.course.begin(asked(self._round), 0)
        assert self._leg.point not in self._given.values()
        self._given[self._round] = self._leg.point

    @precondition(lambda self: self._leg is not None)
    @rule()
    def go_on(self) -> None:
        assert self._leg is not None
        assert self.course.begin(asked(self._round), 0) == self._leg

    @rule()
    def killed_while_it_begins(self) -> None:
        self._killed(lambda: self.course.begin(asked(self._round + 1), 0))

    @precondition(lambda self: self._leg is not None)
    @rule()
    def killed_while_it_ends(self) -> None:
        leg = self._leg
        assert leg is not None
        self._killed(lambda: self.course.end(leg, kept=True))

    @precondition(lambda self: self._leg is not None)
    @rule()
    def end(self) -> None:
        assert self._leg is not None
        self.course.end(self._leg, kept=False)
        self._ended.append(self._leg.point)
        self._leg = None

    def _killed(self, work: Callable[[], object]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(course_module, "save", _pull_the_plug)
            with pytest.raises(PowerCutError):
                work()

    @invariant()
    def numbers_only_rise(self) -> None:
        points = list(self._given.values())
        assert points == sorted(set(points))
        assert self._ended == sorted(set(self._ended))


def _pull_the_plug(path: Path, document: object) -> None:
    raise PowerCutError(path, document)


TestRounds = Rounds.TestCase


# --- what has become of it --------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(100))


def odd_form(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"form":0', b'"form":3'))


@pytest.mark.parametrize("damage", [cut, zeros, odd_form])
def test_a_damaged_course_is_told_by_name_and_begins_no_point(
    tmp_path: Path, course: Course, damage: Callable[[Path], None]
) -> None:
    leg = course.begin(asked(), 0)
    (path,) = (tmp_path / "gate" / "courses").glob("*.json")
    damage(path)
    for work in (course.last, lambda: course.begin(asked(2), 0), lambda: course.still(leg)):
        with pytest.raises(StateError, match=path.name):
            work()


def test_a_home_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StateError):
        Course(tmp_path / "home", "web01")
