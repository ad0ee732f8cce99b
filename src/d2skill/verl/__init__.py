"""D2Skill on verl: rollouts by its servers, updates by its workers, the method by this package (docs/cluster.md)."""
