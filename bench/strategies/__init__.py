"""Strategies to measure against: each does one thing as we do not."""
