"""The run folder: its layout, its checkpoints, its saved trajectories and its lists of tasks."""
