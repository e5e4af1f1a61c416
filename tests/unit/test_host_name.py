import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.host_name import host_name, is_address


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("localhost", "localhost"),
        ("my_site.example", "my_site.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("example\u3002com", "example.com"),
        ("127.0.0.1", "127.0.0.1"),
        ("\uff11\uff12\uff17.0.0.1.", "127.0.0.1"),
    ],
)
def test_a_name_has_one_form(text: str, name: str) -> None:
    assert host_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "a..b", "a.com..", "a b", "a/b", "a:80", "[::1]", "\ud800", "\xad"),
        *("127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "1.2.3.256", "a.0x"),
        "a" * 64,
        "a." * 127 + "com",
    ],
)
def test_what_is_no_name_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"host|DNS|IPv4") as refusal:
        host_name(text)
    assert text not in str(refusal.value) or len(text) < 2


@given(st.text(alphabet=st.sampled_from([*"aB1.-_0xé\u3002\u212a"]) | st.characters(), max_size=12))
def test_the_form_is_stable(text: str) -> None:
    try:
        name = host_name(text)
    except ValueError:
        return
    assert name.isascii()
    assert host_name(name) == name


def test_addresses_are_told_from_names() -> None:
    assert is_address("10.0.0.1")
    assert is_address("2001:db8::1")
    assert not is_address("10.0.0.1.example")
    assert not is_address("localhost")
