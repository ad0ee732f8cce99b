"""Terminal game: a person plays a task, and saved trajectories are shown turn by turn."""

from d2skill.play.game import play
from d2skill.play.replay import load_trajectories, print_overview, replay
from d2skill.play.terminal import ReadLine, line_reader

__all__ = ["ReadLine", "line_reader", "load_trajectories", "play", "print_overview", "replay"]
