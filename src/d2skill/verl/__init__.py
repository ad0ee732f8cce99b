"""Training through verl (docs/cluster.md): its servers play, its workers update, this package holds the method."""
