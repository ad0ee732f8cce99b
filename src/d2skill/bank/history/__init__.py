"""Analysis of a bank's journal: timelines of skills, differences between banks, statistics, and search.

Pure functions of journals, skills and saved trajectories. The commands only print what these return.
"""
