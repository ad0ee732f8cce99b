"""WebShop in pure Python: an environment of shopping by search and click, as text."""

from d2skill.envs.webshop.catalogue import Catalogue, cache_folder
from d2skill.envs.webshop.goals import Goal, GoalSet, goals_of_split, make_goals, split_goals, split_products
from d2skill.envs.webshop.pages import Page
from d2skill.envs.webshop.product import Product
from d2skill.envs.webshop.reward import NounFinder, Reward, compute_reward, default_noun_finder, plain_nouns
from d2skill.envs.webshop.shop import Shop

__all__ = [
    "Catalogue",
    "Goal",
    "GoalSet",
    "NounFinder",
    "Page",
    "Product",
    "Reward",
    "Shop",
    "cache_folder",
    "compute_reward",
    "default_noun_finder",
    "goals_of_split",
    "make_goals",
    "plain_nouns",
    "split_goals",
    "split_products",
]
