"""One stage per file; every side effect in `jobs.runtime`."""
