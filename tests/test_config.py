"""Where things are kept, and which plug-ins there are."""

import os
from pathlib import Path

import pytest

from appliance import config
from appliance.cloud.local import LocalTarget
from appliance.errors import BadInputError, StateError
from appliance.ingest.attached import AttachedDisks
from appliance.ingest.image import ImageFiles


def test_the_operator_chooses_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOTIONGEAR_HOME", "here")
    assert config.home() == tmp_path / "here"


def test_root_keeps_state_where_services_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTIONGEAR_HOME", "")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.home() == Path("/var/lib/motiongear")


def test_others_keep_state_where_users_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOTIONGEAR_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert config.home() == tmp_path / ".local" / "state" / "motiongear"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert config.home() == tmp_path / "xdg" / "motiongear"


def test_the_home_is_made_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTIONGEAR_HOME", str(tmp_path / "new" / "home"))
    assert config.ensure_home() == config.ensure_home() == tmp_path / "new" / "home"
    assert config.home().stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "home"):
        monkeypatch.setenv("MOTIONGEAR_HOME", str(place))
        with pytest.raises(StateError, match=f"{place} cannot be made"):
            config.ensure_home()


@pytest.mark.parametrize(
    ("group", "name", "found"),
    [
        ("sources", "attached", AttachedDisks),
        ("sources", "image", ImageFiles),
        ("targets", "local", LocalTarget),
    ],
)
def test_plug_ins_are_found_by_name(group: str, name: str, found: type) -> None:
    assert config.plugin(group, name) is found


def test_a_plug_in_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInputError, match="There is no source 'tape'") as refused:
        config.plugin("sources", "tape")
    assert refused.value.what.endswith(", but: attached, image, live")
    assert refused.value.todo_now == "Use one of those."
