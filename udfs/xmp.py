"""XMP packets that say where a picture was taken, or by whose camera."""

from typing import Final

# Parts of property names (XMP Part 2 §2.4 and §3: exif, exifEX, aux), in lower case. The colon
# keeps `gps` from being found in base64.
_PRIVATE: Final = (
    b":gps",
    b"latitude",
    b"longitude",
    b"serialnumber",
    b"ownername",
    b"imageuniqueid",
    b"makernote",
)
_EMPTY: Final = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


def is_private(packet: bytes) -> bool:
    """Whether a packet, in UTF-8, UTF-16 or UTF-32, names such a property.

    >>> is_private(b'<rdf:Description exif:GPSLatitude="52,30N"/>')
    True
    """
    plain = packet.replace(b"\0", b"").lower()
    return any(name in plain for name in _PRIVATE)


def empty(size_bytes: int) -> bytes:
    """A packet that says nothing, as long as the one that it stands in for."""
    return _EMPTY.ljust(size_bytes) if size_bytes >= len(_EMPTY) else b" " * size_bytes
