"""A task played in the terminal by a person, and saved trajectories shown there again.

Input and output are handed in. `line_reader` makes the input of a terminal, with completion, or of a pipe.
"""

from d2skill.play.game import play
from d2skill.play.replay import overview, replay
from d2skill.play.terminal import ReadLine, line_reader

__all__ = ["ReadLine", "line_reader", "overview", "play", "replay"]
