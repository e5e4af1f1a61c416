import pytest

from jobs.runtime.errors import BreakerOpen
from jobs.runtime.streams import Breaker


def test_a_share_at_its_limit_passes_and_one_above_it_stops() -> None:
    breaker = Breaker(max_shares={"http_gone": 0.3}, min_rows=10)
    breaker.check("fetch", 10, {"http_gone": 3, "dns_failed": 7})
    with pytest.raises(BreakerOpen, match=r"4 of 10 rows .* http_gone, 40\.0%, limit 30\.0%"):
        breaker.check("fetch", 10, {"http_gone": 4})


def test_the_message_says_what_to_do() -> None:
    with pytest.raises(BreakerOpen) as caught:
        Breaker(default_max_share=0.0).check("fetch", 1, {"http_gone": 1})
    for words in ("sluice quarantine --class http_gone", "sluice retry", "breaker.max_shares"):
        assert words in str(caught.value)


def test_few_rows_say_nothing() -> None:
    Breaker(default_max_share=0.1, min_rows=10).check("fetch", 9, {"http_gone": 9})


def test_by_default_nothing_stops() -> None:
    Breaker().check("fetch", 1, {"http_gone": 1})
