"""Generated games in the file format of ALFWorld, so that training can start without a download.

The domain and the grammar in `envs/alfworld/resources` are ALFWorld's own (github.com/alfworld/alfworld, MIT licence),
comments left out: they are part of the file format, and with them the official engine loads these games too.

Splits: `train` and, with other games in the same floor plans, `valid_seen` and `test_seen`; `valid_unseen`
has floor plans of its own.
"""

from d2skill.envs.houses.generator import PANEL, House, build_house, generate, sizes, split_size

__all__ = ["PANEL", "House", "build_house", "generate", "sizes", "split_size"]
