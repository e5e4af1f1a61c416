"""Footers of Parquet that no writer makes."""


def nested_footer(levels: int) -> bytes:
    """A footer of Thrift's compact protocol with one column so deep."""
    root, group = b"\x48\x01s\x15\x02\x00", b"\x35\x02\x18\x01a\x15\x02\x00"
    leaf = b"\x15\x02\x25\x02\x18\x01a\x00"
    count = levels + 2
    size = bytes([count & 0x7F | 0x80, count >> 7 & 0x7F | 0x80, count >> 14])
    schema = b"\x19\xfc" + size + root + group * levels + leaf
    footer = b"\x15\x02" + schema + b"\x16\x00\x19\x0c\x00"
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
