from pathlib import Path

from appliance.seal import opening, verify
from appliance.seal.pointmap import PointMap
from tests.support import OPERATOR, sealed_sample


def test_a_sealed_store_verifies_and_opens(tmp_path: Path) -> None:
    store, _, data = sealed_sample(tmp_path)
    sealed = verify.inspect(store.path, verify.Pins())
    assert not verify.verify(sealed).problems
    maps: list[PointMap] = []
    assert not opening.open_all(sealed, OPERATOR, proved=maps.append).problems
    assert maps[0].manifest.size == len(data)
