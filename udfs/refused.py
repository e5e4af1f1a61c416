"""Bytes that are refused: under which class, and why."""


class Refused(ValueError):
    """Bytes that cost their own row.

    Attributes:
        error_class: one of ``schemas.error_classes``.
        detail: what was wrong, never the content.
    """

    def __init__(self, error_class: str, detail: str) -> None:
        """Refuse bytes under a class, with a detail."""
        super().__init__(error_class, detail)
        self.error_class = error_class
        self.detail = detail
