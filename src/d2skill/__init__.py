"""d2skill: train language-model agents together with a dynamic bank of skills."""
