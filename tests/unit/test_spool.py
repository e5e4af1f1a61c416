import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from udfs.spool import Spool

KINDS = st.sampled_from([np.uint8, np.int16, np.float32])


@given(
    st.data(),
    KINDS,
    hnp.array_shapes(max_dims=3, max_side=4),
    st.lists(st.integers(0, 5)),
)
def test_a_spool_gives_back_what_it_was_given(data, kind, shape, lengths) -> None:
    blocks = [data.draw(hnp.arrays(kind, (n, *shape))) for n in lengths]
    whole = np.concatenate(blocks) if blocks else np.empty((0,))
    start, stop = data.draw(st.integers(0, 20)), data.draw(st.integers(0, 20))
    with Spool() as spool:
        for block in blocks:
            spool.extend(block)
            spool[:]  # reading between writes moves nothing
        assert len(spool) == len(whole)
        np.testing.assert_array_equal(spool[start:stop], whole[start:stop])
        if blocks:
            assert spool[:].dtype == kind


def test_arrays_of_another_kind_are_refused() -> None:
    with Spool() as spool:
        spool.extend([np.zeros(3, np.uint8)])
        with pytest.raises(ValueError, match="allowed uint8 of shape"):
            spool.extend([np.zeros(4, np.uint8)])
        with pytest.raises(ValueError, match="got int16"):
            spool.extend([np.zeros(3, np.int16)])
