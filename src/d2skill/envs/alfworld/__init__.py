"""ALFWorld: household tasks in text, played by an engine in pure Python."""

from d2skill.envs.alfworld.environment import AlfworldEnvironment, GameFile
from d2skill.envs.alfworld.game import Game, GameObservation

__all__ = ["AlfworldEnvironment", "Game", "GameFile", "GameObservation"]
