"""How often each key of a shard has come: what is told apart by it."""

from collections import Counter


class Occurrences:
    """A count of keys, as a shard is read.

    >>> seen = Occurrences()
    >>> seen.count("a"), seen.count("b"), seen.count("a"), seen.before("a")
    (0, 0, 1, 2)
    """

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._seen: Counter[str] = Counter()

    def before(self, key: str) -> int:
        """How often the key came before."""
        return self._seen[key]

    def count(self, key: str) -> int:
        """The same, and now it has come once more."""
        self._seen[key] += 1
        return self._seen[key] - 1
