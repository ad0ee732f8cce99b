"""Estimates of what a run takes before it begins: model sizes, memory, work, hours and money."""
