"""Scorer policy: a linear model over hashed features of each admissible action."""
