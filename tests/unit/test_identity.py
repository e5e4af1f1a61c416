from hypothesis import given
from hypothesis import strategies as st

from udfs.identity import digest, sample_id

PARTS = st.lists(st.text(st.characters()), max_size=4)


@given(PARTS, PARTS)
def test_two_lists_of_parts_share_a_digest_only_when_they_are_equal(
    left: list[str], right: list[str]
) -> None:
    assert (digest(*left) == digest(*right)) == (left == right)


def test_a_sample_id_is_128_bits_of_the_place_in_the_dump() -> None:
    assert sample_id("d", "s.tar", "k", 0) == digest("d", "s.tar", "k", 0)[:32]
    assert len({sample_id("d", "s.tar", "k", i) for i in range(3)}) == 3
