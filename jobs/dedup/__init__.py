"""Duplicates of every kind, among all history at about the cost of the batch."""
