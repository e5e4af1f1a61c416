"""The closed list of what can send an input to quarantine."""

from typing import Final

ERROR_CLASSES: Final = {
    "unreadable_shard": "the shard cannot be opened or is no tar at all",
    "truncated_shard": "the shard is cut or damaged somewhere; what came before it is kept",
    "decompression_bomb": "the shard grows past the limits; what came before that is kept",
    "unsafe_member_name": "an absolute member name, or one that climbs out of the archive",
    "unsafe_member_type": "a link, device or other member that is no file",
    "member_too_large": "a member larger than the configured limit",
    "duplicate_key": "a key that the shard has delivered before",
    "missing_image": "a caption without an image",
    "missing_caption": "an image without a caption",
    "caption_not_utf8": "a caption whose bytes are not UTF-8",
    "empty_media": "a media member of zero bytes",
    "not_an_image": "bytes that no accepted image decoder recognises",
    "too_many_pixels": "a header that declares more pixels than the configured limit",
    "truncated_image": "image data that ends early",
    "corrupt_image": "image data that the decoder refuses",
    "text_not_scored": "a text that a text signal failed on",
}
OK: Final = "ok"
