"""The report: one static page of what a warehouse holds and why, each number with its SQL."""

from jobs.report.page import write

__all__ = ["write"]
