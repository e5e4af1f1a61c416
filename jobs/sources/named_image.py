"""An item whose record names its image: by a path in the dump, a URL, or both."""

import posixpath

from jobs.sources import media_file
from jobs.sources.entry import EntryRefused, Extent, Limits, image_facts
from jobs.sources.place import Place
from jobs.sources.texts import printable
from jobs.sources.web_url import is_web_url


def folder_of(place: Place, option: str | None) -> str:
    """The folder, relative to the dump's root, that paths start from: the shard's unless told.

    >>> folder_of(Place("/dumps/coco", "annotations/captions.json"), None)
    'annotations'
    """
    return posixpath.dirname(place.shard) if option is None else option


def media(
    place: Place, folder: str, name: object, url: object, limits: Limits
) -> dict[str, object]:
    """What an entry says of its image: with `content` if the dump has it, else with `url` only.

    Args:
        place: where the dump lies.
        folder: that `name` starts from, relative to the dump's root.
        name: path of the image, as the record says it; not trusted.
        url: where the image is to be had, as the record says it; not trusted.
        limits: what the image may cost.

    Raises:
        EntryRefused: the path leads out of the dump; or no image can be had by either.
    """
    said_url = printable(url) if isinstance(url, str) and url else None
    found = None
    if isinstance(name, str) and name:
        found = media_file.find(place, posixpath.join(folder, name))
    elif name not in (None, ""):
        raise EntryRefused("damaged_record", "the image's name is no text")
    if found is not None:
        content = media_file.read(place, found, limits)
        return {
            **image_facts(content, found.path, limits),
            "content": content,
            "size_bytes": len(content),
            "extent": Extent(path=found.path),
            "url": said_url,
        }
    if said_url is None:
        raise media_file.missing()
    if not is_web_url(said_url):
        raise EntryRefused("invalid_url", "the image is not in the dump, its URL not of the web")
    return {"url": said_url}
