"""WebShop: shopping by search and click in text, by an engine of our own."""

from d2skill.envs.webshop.catalogue import Catalogue, cache_folder
from d2skill.envs.webshop.goals import Goal, GoalSet, make_goals
from d2skill.envs.webshop.nouns import Nouns, find_nouns, plain_nouns
from d2skill.envs.webshop.pages import Page
from d2skill.envs.webshop.product import Product
from d2skill.envs.webshop.reward import Reward, reward
from d2skill.envs.webshop.shop import Shop
from d2skill.envs.webshop.splits import panel, split_goals

__all__ = [
    "Catalogue",
    "Goal",
    "GoalSet",
    "Nouns",
    "Page",
    "Product",
    "Reward",
    "Shop",
    "cache_folder",
    "find_nouns",
    "make_goals",
    "panel",
    "plain_nouns",
    "reward",
    "split_goals",
]
