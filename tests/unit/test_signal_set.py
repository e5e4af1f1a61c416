import pytest

from udfs.signal_set import check_columns, digest, fill


class Inverse:
    columns = ("inverse",)

    def __init__(self) -> None:
        self.calls: list[int] = []

    def finish(self, items):
        self.calls.append(len(items))
        return {"inverse": [1 / item for item in items]}


def refused(row, error):
    return {"status": "bad", "detail": type(error).__name__, "key": row["key"]}


def rows(count: int):
    return [{"key": n, "status": "ok"} for n in range(count)]


def test_the_digest_changes_with_every_version() -> None:
    assert digest(["a/1", "b/1"]) != digest(["a/1", "b/2"])
    assert digest(["a/1"]) != digest(["a/1", "b/1"])
    assert len(digest([])) == 16


def test_a_sound_batch_is_measured_in_one_call() -> None:
    signal = Inverse()
    filled = fill([signal], rows(3), [[1], [2], [4]], refused)
    assert [row["inverse"] for row in filled] == [1, 0.5, 0.25]
    assert signal.calls == [3]


def test_only_the_poisoned_row_of_a_batch_is_refused() -> None:
    filled = fill([Inverse()], rows(3), [[1], [0], [4]], refused)
    assert filled[1] == {"status": "bad", "detail": "ZeroDivisionError", "key": 1}
    assert [filled[0]["inverse"], filled[2]["inverse"]] == [1, 0.25]


def test_a_refused_row_is_not_shown_to_later_signals() -> None:
    second = Inverse()
    fill([Inverse(), second], rows(2), [[0, 1], [2, 2]], refused)
    assert second.calls == [1]


def test_rows_refused_before_stay_as_they_are() -> None:
    signal = Inverse()
    before = [{"key": 0, "status": "empty_media"}]
    assert fill([signal], before, [()], refused) == before
    assert signal.calls == []


def test_a_signal_that_returns_too_few_values_fails_no_neighbour_silently() -> None:
    class Short(Inverse):
        def finish(self, items):
            return {"inverse": [1.0] * (len(items) - 1), "other": [2.0] * len(items)}

    filled = fill([Short()], rows(2), [[1], [1]], refused)
    assert [row["status"] for row in filled] == ["bad", "bad"]


def test_a_signal_that_the_table_has_no_column_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['inverse'\] are not in the table"):
        check_columns([Inverse()], ["phash"])
