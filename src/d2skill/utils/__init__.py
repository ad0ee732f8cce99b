"""Utilities that know nothing of the method: files, seeds, text, statistics, devices, process groups."""
