"""The report: one static page of what a warehouse holds and why, each number with its SQL."""

from jobs.report.page import NUMBERS, stored, write

__all__ = ["NUMBERS", "stored", "write"]
