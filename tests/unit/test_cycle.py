"""What the gate refuses in one step does not keep a cycle from the others."""

from collections.abc import Callable

import pytest

from jobs.cycle import CURATE_CLIPS, PUBLISH_CLIPS, STAGE_NAMES, _past_refusals
from jobs.runtime.errors import GateFailed, LedgerMismatch


def test_all_steps_are_taken_and_all_refusals_told() -> None:
    taken: list[str] = []

    def step(name: str, error: Exception | None = None) -> Callable[[], None]:
        def take() -> None:
            taken.append(name)
            if error is not None:
                raise error

        return take

    refused = [step("a", GateFailed("no a")), step("b"), step("c", GateFailed("no c")), step("d")]
    with pytest.raises(GateFailed, match="no a\nno c"):
        _past_refusals(refused)
    assert taken == ["a", "b", "c", "d"]
    _past_refusals([step("e")])
    with pytest.raises(LedgerMismatch):  # of anything else nothing later is sure
        _past_refusals([step("f", LedgerMismatch("odd")), step("g")])
    assert taken == ["a", "b", "c", "d", "e", "f"]


def test_all_is_decided_before_anything_is_published() -> None:
    assert STAGE_NAMES[-4:] == ("curate", CURATE_CLIPS, "publish", PUBLISH_CLIPS)
