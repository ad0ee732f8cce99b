"""Knowledge from trajectories, without a model and without knowing any environment (docs/method.md).

`patterns` are task texts with slots, `procedures` the acts that successes have in common, `situations` the places where
things were found. `evidence` turns groups of trajectories into drafts with counts, `advice` follows in an episode which
advice is done or refuted.
"""
