"""The form of a URL that duplicates are searched by: equal for spellings that mean one resource.

The rules are those of RFC 3986 §6.2.2 and §6.2.3 on a URL read as browsers read it (WHATWG URL
§4.4). Whatever may name another resource is kept: path and query in their case and order, `www.`,
a last slash, http apart from https. It is for comparing, not for fetching.
"""

import re
import string
from ipaddress import AddressValueError, IPv6Address
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from udfs.host_name import host_name
from udfs.identity import fingerprint

VERSION: Final = "canonical_url/1"  # another one wherever a form or the list below changes
MAX_CHARS: Final = 8192  # chosen: what common servers take as a line (nginx, Apache: 8 KiB)

# Parameters that name the click, the mail or the campaign, never the resource. Taken are those
# that Brave removes on every site (brave-core, components/query_filter) and the general ones of
# AdGuard's "URL Tracking filter"; left are those that sites use otherwise too: ref, si, source,
# cid, sid, session, s_cid, __s. A parameter that is missed costs one duplicate, which its bytes
# still show; one too many would merge two resources.
TRACKING_PREFIXES: Final = (
    "utm_",  # Google Analytics, and what imitates it: "Campaign URL builder"
    "mtm_",  # Matomo: "Tracking campaigns"
    "pk_",  # Matomo when it was Piwik
    "itm_",  # utm_ within one site
    "oft_",  # Omeda; Brave
    "__hs",  # HubSpot's cookies, handed on: __hstc, __hssc, __hsfp
)
TRACKING: Final = frozenset(
    {
        *("gclid", "gclsrc", "dclid", "gbraid", "wbraid", "srsltid"),  # Google Ads, Merchant Center
        *("_ga", "_gl"),  # Google Analytics, from domain to domain
        *("fbclid", "fb_action_ids", "fb_action_types", "fb_comment_id", "fb_ref", "fb_source"),
        *("igshid", "igsh"),  # Instagram
        *(
            "twclid",
            "ttclid",
            "msclkid",
            "li_fat_id",
            "epik",
        ),  # X, TikTok, Bing, LinkedIn, Pinterest
        *("yclid", "ymclid", "ysclid", "_openstat"),  # Yandex; Openstat
        *("mc_cid", "mc_eid", "mkt_tok"),  # Mailchimp, Marketo
        *("_hsenc", "_hsmi", "hsctatracking"),  # HubSpot
        *("ml_subscriber", "ml_subscriber_hash"),  # MailerLite
        *("oly_anon_id", "oly_enc_id"),  # Omeda Olytics
        *("vero_conv", "vero_id"),  # Vero
        *("bsft_clkid", "bsft_uid"),  # Blueshift
        *("_branch_match_id", "_branch_referrer"),  # Branch
        *("guccounter", "guce_referrer", "guce_referrer_sig"),  # Yahoo's consent pages
        *("rb_clickid", "irclickid", "unicorn_click_id", "wickedid"),  # other brokers of clicks
        *("at_recipient_id", "at_recipient_list", "bbeml", "et_rid", "ss_email_id", "vgo_ee"),
        *("_bhlid", "_kx"),  # beehiiv, Klaviyo
    }
)

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}  # RFC 9110 §4.2.1, §4.2.2
_EDGES: Final = "".join(map(chr, range(0x21)))  # C0 controls and space: WHATWG URL §4.4
_UNSEEN: Final = str.maketrans("", "", "\t\n\r")  # removed wherever they stand: the same
_START: Final = re.compile(r"(https?):[/\\]*", re.IGNORECASE)
_AUTHORITY_END: Final = re.compile(r"[/\\?]")
_PORT: Final = re.compile(r"[0-9]{1,8}")  # chosen: leading zeros, but no endless ones
_UNRESERVED: Final = string.ascii_letters + string.digits + "-._~"  # RFC 3986 §2.3
_PATH: Final = _UNRESERVED + "!$&'()*+,;=:@/"  # RFC 3986 §3.3
_QUERY: Final = _UNRESERVED + "!$&()*+,;=:@/?"  # §3.4, less the quote, which browsers escape


def _escapes(allowed: str) -> re.Pattern[str]:
    """What of a text has to be looked at: escapes, and whatever is not allowed as it is."""
    return re.compile(rf"%([0-9A-Fa-f]{{2}})|%|[^%{re.escape(allowed)}]+")


_PATH_ESCAPES: Final = _escapes(_PATH)
_QUERY_ESCAPES: Final = _escapes(_QUERY)


def canonical_url(url: str | None) -> str | None:
    """The canonical form of an http or https URL: ASCII, at most `MAX_CHARS`, idempotent.

    Args:
        url: as a dump has it.

    Returns:
        None if it is no absolute http or https URL that could be fetched: no host of DNS, a port
        out of range, credentials, too long.

    >>> canonical_url("HTTP://Bücher.Example:80/a/../%7eb%2f?utm_source=x&q=%e4&fbclid=1#top")
    'http://xn--bcher-kva.example/~b%2F?q=%E4'
    """
    if url is None or len(url) > MAX_CHARS:
        return None
    cleaned = url.strip(_EDGES).translate(_UNSEEN).partition("#")[0]
    start = _START.match(cleaned)
    if start is None:
        return None
    scheme = start[1].lower()
    end = _AUTHORITY_END.search(cleaned, start.end())
    at = end.start() if end else len(cleaned)
    path, _, query = cleaned[at:].partition("?")
    try:
        url.encode()  # no lone surrogates, be they in what is dropped
        authority = _authority(cleaned[start.end() : at], _DEFAULT_PORTS[scheme])
        path = _path(path)
        query = _query(query)
    except ValueError:
        return None
    canonical = f"{scheme}://{authority}{path}{query}"
    return canonical if len(canonical) <= MAX_CHARS else None


def url_fingerprint(url: str | None) -> bytes | None:
    """The first 128 bits of sha256 over the canonical form; None where there is none.

    >>> url_fingerprint("http://a.example") == url_fingerprint("HTTP://A.example:80/#b")
    True
    """
    canonical = canonical_url(url)
    if canonical is None:
        return None
    return fingerprint(canonical.encode("ascii"))


def _authority(text: str, default_port: int) -> str:
    """Host and, if it is not the default, port."""
    if "@" in text:
        raise ValueError("credentials")
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("brackets")
        host, port = f"[{_ipv6(inner)}]", rest[1:]
    else:
        name, _, port = text.partition(":")
        host = host_name(unquote_to_bytes(name).decode())
    if not port:
        return host
    if not _PORT.fullmatch(port) or not 0 < int(port) < 1 << 16:
        raise ValueError("port")
    return host if int(port) == default_port else f"{host}:{int(port)}"


def _ipv6(text: str) -> str:
    address = IPv6Address(text)
    if address.scope_id is not None:
        raise AddressValueError("zone")
    return str(address)


def _path(text: str) -> str:
    """A path that begins with a slash, escapes normalised, `.` and `..` carried out."""
    normalised = _PATH_ESCAPES.sub(_escape, text.replace("\\", "/"))
    kept: list[str] = []
    segments = normalised.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")  # they name a folder: RFC 3986 §5.2.4
    return "/" + "/".join(kept)


def _query(text: str) -> str:
    """A query with its question mark, or nothing.

    Parameters stay in their order: it may mean something (`a=1&a=2`, and queries that are no
    parameters at all). Empty ones mean nothing (WHATWG URL §5.1).
    """
    normalised = _QUERY_ESCAPES.sub(_escape, text)
    kept = [part for part in normalised.split("&") if part and not _is_tracking(part)]
    return "?" + "&".join(kept) if kept else ""


def _is_tracking(parameter: str) -> bool:
    name = parameter.partition("=")[0].lower()
    return name in TRACKING or name.startswith(TRACKING_PREFIXES)


def _escape(found: re.Match[str]) -> str:
    digits = found[1]
    if digits is None:
        # A lone percent sign as well: left as it is, it could begin an escape after its
        # neighbours were decoded.
        return quote(found[0], safe="")
    char = chr(int(digits, 16))
    return char if char in _UNRESERVED else f"%{digits.upper()}"
