"""Adam over the weights of a model, in float32 whatever the precision of the weights.

A step of 1e-6 on a weight of 0.02 is lost in bfloat16, which has eight bits of mantissa; so weights of lower
precision get a float32 copy that takes the steps and is rounded into them.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import torch

from d2skill.utils.process_group import ProcessGroup


class Adam:
    """Adam with gradients cut to a norm.

    Args:
        model: its trainable parameters are stepped in place.
        learning_rate: step size.
        max_grad_norm: norm over all gradients to which they are cut.
    """

    def __init__(self, model: torch.nn.Module, learning_rate: float, max_grad_norm: float) -> None:
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._masters = {
            name: p if p.dtype == torch.float32 else p.detach().float() for name, p in self._weights.items()
        }
        self._adam = torch.optim.Adam(self._masters.values(), lr=learning_rate)
        self._max_grad_norm = max_grad_norm

    def step(self, processes: ProcessGroup | None = None) -> float:
        """Steps against the gradients, clears them, and returns their norm before it was cut.

        With `processes` the gradients are summed over processes. Raises RuntimeError if one is not finite; the weights
        are then as before.
        """
        for name, master in self._masters.items():
            weight = self._weights[name]
            if master is not weight and weight.grad is not None:
                master.grad, weight.grad = weight.grad.float(), None
        if processes and processes.world_size > 1:
            self._add_up(processes)
        norm = torch.nn.utils.clip_grad_norm_(self._masters.values(), self._max_grad_norm, error_if_nonfinite=True)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, master in self._masters.items():
                if master is not self._weights[name]:
                    self._weights[name].copy_(master)
        return float(norm)

    def _add_up(self, processes: ProcessGroup) -> None:
        """Makes gradients the sums over all processes; one without a share of the rows has none."""
        known = {name for name, master in self._masters.items() if master.grad is not None}
        known = known.union(*processes.all_gather(known))
        masters = [master for name, master in self._masters.items() if name in known]
        for master in masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        processes.all_reduce([master.grad for master in masters])

    def checksum(self) -> str:
        """Returns a checksum of what is stepped, to the bit."""
        sums = [master.detach().view(torch.int32).sum(dtype=torch.int64) for master in self._masters.values()]
        return blake2b(torch.stack(sums).cpu().numpy().tobytes(), digest_size=16).hexdigest()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns the state by flat names NAME/exp_avg, NAME/exp_avg_sq, NAME/step and NAME/master."""
        flat: dict[str, torch.Tensor] = {}
        for name, master in self._masters.items():
            for kind, value in self._adam.state.get(master, {}).items():
                flat[f"{name}/{kind}"] = value.contiguous()
            if master is not self._weights[name]:
                flat[f"{name}/master"] = master.contiguous()
        return flat

    def restore(self, flat: Mapping[str, torch.Tensor]) -> None:
        """Takes over a state that `tensors` returned. Raises KeyError for the state of another model."""
        for key, value in flat.items():
            name, _, kind = key.rpartition("/")
            master = self._masters[name]
            if kind == "master":
                with torch.no_grad():
                    master.copy_(value)
            else:
                place: Any = "cpu" if kind == "step" else master.device
                self._adam.state[master][kind] = value.to(place).clone()
