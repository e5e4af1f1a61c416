"""What compares with torch is collected where torch is: by `make test-export`, not `make test`."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]
