"""Trackers: they are told the metrics of every iteration (protocols.Tracker)."""
