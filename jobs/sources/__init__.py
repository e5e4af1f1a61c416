"""One dump format per file: from a shard's bytes to entries, accepted or refused."""
