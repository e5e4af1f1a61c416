"""The closed list of what can send an input to quarantine."""

from typing import Final

OF_SHARDS: Final = {  # met by ingest, where a shard or a record of it is read
    "unreadable_shard": "the shard cannot be opened, or is not of its format at all",
    "shard_changed": "the shard is not what it was when it was discovered",
    "truncated_shard": "the shard is cut or damaged somewhere; what came before it is kept",
    "decompression_bomb": "the shard grows past the limits; what came before that is kept",
    "damaged_record": "a line, row or record that cannot be read; those beside it are",
}
OF_ITEMS: Final = {  # met by ingest, where an item is judged; of media, by fetch too
    "unsafe_member_name": "an absolute name, or one that climbs out of the archive or dump",
    "unsafe_member_type": "a link, device or other member that is no file",
    "member_too_large": "a member larger than the configured limit",
    "duplicate_key": "a key that the shard has delivered before",
    "missing_image": "a caption without an image",
    "missing_caption": "an image without a caption",
    "invalid_url": "a URL that is missing, cannot be parsed, or is not http or https",
    "empty_document": "a page without a text or an image",
    "caption_not_utf8": "a caption whose bytes are not UTF-8",
    "empty_media": "a media member of zero bytes",
    "not_an_image": "bytes that no accepted image decoder recognises",
    "not_a_video": "bytes of no accepted video container, or of one without a video stream",
    "damaged_video": "a video whose header is cut, broken, or too far to read",
    "video_compressed": "a video in a compressed shard, where no place holds its bytes as they are",
    "too_many_pixels": "a header that declares more pixels than the configured limit",
}
OF_FETCHES: Final = {  # met by fetch
    "dns_failed": "the host's name has no address",
    "address_refused": "the host's address is not a public one, and not allow-listed",
    "connection_failed": "the host refused or broke the connection",
    "tls_failed": "the host's certificate or TLS is not acceptable",
    "deadline_passed": "no first byte, or not all of them, within the time there is",
    "host_unresponsive": "not tried: the host let the requests before run into their deadline",
    "robots_unavailable": "the host's robots.txt cannot be had, so that nothing is allowed",
    "http_gone": "404 or 410: there is no such media any more",
    "http_refused": "another answer of 400 to 499: the host does not give it",
    "http_unavailable": "429 or 500 to 599, still so after the retries: worth a later run",
    "redirect_refused": "too many redirects, a loop, or one to no http or https URL",
    "response_cut": "fewer bytes than the answer declared, or a broken encoding",
    "response_too_large": "more bytes than the configured limit, or a bomb once decompressed",
    "hash_mismatch": "the bytes are not those that the dump's own hash names",
}
OF_VIDEOS: Final = {  # met where videos are decoded
    "no_frames": "a video of which no frame can be decoded",
    "codec_refused": "a codec that is not decoded: unknown, or seldom looked after",
    "corrupt_video": "a video that a signal failed on",
    "truncated_video": "a video of which the end is missing, or cannot be read",
    "wrong_duration": "a video that is whole, and much shorter than its header says",
    "video_too_long": "longer than the configured limit, by its header or by its frames",
}
OF_SIGNALS: Final = {  # met where images and texts are scored
    "truncated_image": "image data that ends early",
    "corrupt_image": "image data that the decoder refuses",
    "decoder_crashed": "a decoder or a signal ended its process: a fault, an abort, an exit",
    "decoder_timeout": "decoding and preparing the signals took longer than the deadline",
    "decoder_memory": "more memory than the limit, or killed by the kernel for want of it",
    "media_gone": "media kept by reference whose bytes its dump no longer holds where they were",
    "text_not_scored": "a text that a text signal failed on",
}
ERROR_CLASSES: Final = {**OF_SHARDS, **OF_ITEMS, **OF_FETCHES, **OF_VIDEOS, **OF_SIGNALS}
OK: Final = "ok"
