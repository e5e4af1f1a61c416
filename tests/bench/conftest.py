"""What is not imported here for its doctests: other interpreters run it."""

collect_ignore = ["peer_daft.py", "peer_ray.py"]
