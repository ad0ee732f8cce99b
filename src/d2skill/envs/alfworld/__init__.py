"""ALFWorld: household tasks in text, played by an engine of our own."""

from d2skill.envs.alfworld.environment import AlfworldEnvironment, GameFile
from d2skill.envs.alfworld.game import Game, Observation

__all__ = ["AlfworldEnvironment", "Game", "GameFile", "Observation"]
