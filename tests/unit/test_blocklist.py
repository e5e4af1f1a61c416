import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from udfs.blocklist import KINDS, Blocklist

DIGESTS = [kind for kind in KINDS if kind != "domain"]


def digest(kind: str, name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()[: 2 * KINDS[kind]]


@pytest.mark.parametrize("kind", DIGESTS)
def test_what_is_listed_is_held_and_nothing_else(kind: str) -> None:
    lines = [digest(kind, i) for i in range(100)]
    blocklist = Blocklist.parse(lines, kind)

    assert len(blocklist) == 100
    assert all(blocklist.holds(line) for line in lines)
    assert not any(blocklist.holds(digest(kind, i)) for i in range(100, 1000))


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_digests_are_those_of_the_usual_tools(algorithm: str) -> None:
    listed = hashlib.new(algorithm, b"media").hexdigest()
    assert Blocklist.parse([listed], algorithm).holds(listed)


def test_a_list_is_a_text_with_comments() -> None:
    listed = [digest("md5", i) for i in range(3)]
    lines = ["# partner, 2024\n", "\n", f"{listed[0]}\r\n", f"  {listed[1].upper()}\t# why\n"]
    blocklist = Blocklist.parse([*lines, listed[2], listed[2].upper()], "md5")

    assert len(blocklist) == 3
    assert all(blocklist.holds(key) and blocklist.holds(key.upper()) for key in listed)


def test_digests_that_begin_or_end_in_zeros_are_told_apart() -> None:
    listed = ["00" * 16, "00" * 15 + "01", "01" + "00" * 15, "0100" + "00" * 13 + "01", "ff" * 16]
    for i, key in enumerate(listed):
        blocklist = Blocklist.parse(listed[:i] + listed[i + 1 :], "md5")
        assert not blocklist.holds(key)
        assert Blocklist.parse(listed, "md5").holds(key)


def test_an_empty_list_holds_nothing() -> None:
    for kind in DIGESTS:
        assert not Blocklist.parse(["# none"], kind).holds(digest(kind, 0))
    assert not Blocklist.parse([], "domain").holds("example.com")


@pytest.mark.parametrize("kind", DIGESTS)
@pytest.mark.parametrize("edit", [lambda d: d[:-1], lambda d: d + "0", lambda d: "g" + d[1:]])
@pytest.mark.parametrize("edit_first", [lambda d: d, lambda d: d[:5] + " " + d[6:]])
def test_a_line_that_is_no_digest_is_named_by_its_number(kind, edit, edit_first) -> None:
    bad = edit(edit_first(digest(kind, 1)))
    digits = 2 * KINDS[kind]
    with pytest.raises(ValueError, match=rf"^line 3: no {kind}; allowed are {digits} hex") as met:
        Blocklist.parse(["# first", digest(kind, 0), bad], kind)
    assert bad not in str(met.value)


@pytest.mark.parametrize("line", ["a b", "http://example.com/", "example..com", "127.1", "*.a.com"])
def test_a_line_that_is_no_domain_is_named_by_its_number(line: str) -> None:
    with pytest.raises(ValueError, match=r"^line 2: no domain; allowed are names") as met:
        Blocklist.parse(["example.com", line], "domain")
    assert line not in str(met.value)


def test_a_kind_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind 'crc32'; allowed are md5, sha1"):
        Blocklist.parse([], "crc32")


def test_a_digest_of_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="no md5"):
        Blocklist.parse([], "md5").holds(digest("sha1", 0))


@pytest.mark.parametrize(
    ("host", "is_held"),
    [
        ("example.com", True),
        ("EXAMPLE.com.", True),
        ("a.example.com", True),
        ("a.b.c.example.com", True),
        ("notexample.com", False),
        ("example.com.evil.org", False),
        ("com", False),
        ("example.org", False),
        ("bücher.example", True),
        ("xn--bcher-kva.example", True),
        ("www.BÜCHER.example", True),
        ("10.0.0.1", True),
        ("110.0.0.1", False),
        ("9.10.0.0.1", False),
        ("2001:DB8:0::1", True),
        ("2001:db8::2", False),
        ("0.1", False),
        ("", False),
        ("not a host", False),
    ],
)
def test_a_domain_stands_for_all_below_it(host: str, is_held: bool) -> None:
    lines = ["Example.COM.", "BÜCHER.example # books", "10.0.0.1", "2001:db8::1"]
    assert Blocklist.parse(lines, "domain").holds(host) is is_held


def test_a_listed_subdomain_does_not_stand_for_the_domain() -> None:
    blocklist = Blocklist.parse(["a.example.com"], "domain")
    assert blocklist.holds("b.a.example.com")
    assert not blocklist.holds("example.com")
    assert not blocklist.holds("b.example.com")


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_list_is_the_same_list(kind: str, mmap: bool, tmp_path: Path) -> None:
    lines = ["example.com"] if kind == "domain" else [digest(kind, i) for i in range(9)]
    for listed in (lines, []):
        Blocklist.parse(listed, kind).save(tmp_path / "list")
        loaded = Blocklist.load(tmp_path / "list", mmap=mmap)

        assert loaded.kind == kind
        assert len(loaded) == len(listed)
        assert all(loaded.holds(line) for line in listed)
        assert not loaded.holds("example.org" if kind == "domain" else digest(kind, 10))
        copy = pickle.loads(pickle.dumps(loaded))
        assert all(copy.holds(line) for line in listed)


def test_a_mapped_list_stays_on_the_disk(tmp_path: Path) -> None:
    Blocklist.parse([digest("md5", 0)], "md5").save(tmp_path / "list")
    loaded = Blocklist.load(tmp_path / "list")
    assert isinstance(loaded.digests, np.memmap)
    assert not loaded.digests.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3),
        np.zeros(3, "S16"),
        np.zeros(3, [("crc32", "S16")]),
        np.zeros(3, [("md5", "S20")]),
        np.zeros((3, 3), [("md5", "S16")]),
        np.zeros(3, [("md5", "S16"), ("sha1", "S20")]),
    ],
)
def test_a_file_of_something_else_is_refused(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", array)
    with pytest.raises(ValueError, match="is no blocklist; allowed is what a blocklist saved"):
        Blocklist.load(tmp_path / "other.npy")


@given(
    st.lists(st.binary(min_size=20, max_size=20)),
    st.lists(st.binary(min_size=20, max_size=20)),
)
def test_a_list_is_the_set_of_its_digests(listed: list[bytes], others: list[bytes]) -> None:
    blocklist = Blocklist.parse([key.hex() for key in listed], "sha1")

    assert len(blocklist) == len(set(listed))
    for key in {*listed, *others}:
        assert blocklist.holds(key.hex()) == (key in listed)


LABELS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)


@given(st.lists(LABELS, max_size=4), LABELS)
def test_a_host_is_held_if_a_listed_domain_is_its_end(
    domains: list[list[str]], host: list[str]
) -> None:
    blocklist = Blocklist.parse([".".join(domain) for domain in domains], "domain")
    expected = any(host[-len(domain) :] == domain for domain in domains)
    assert blocklist.holds(".".join(host)) == expected
