"""Adam in float32 for models of any precision, with master weights.

Steps as small as 1e-6 are lost in bfloat16. So weights of lower precision get a float32 copy, the master weights, that
takes the steps and is rounded into them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import torch

from d2skill.errors import ConfigError
from d2skill.utils.finite import UPDATE, require_finite
from d2skill.utils.process_group import ProcessGroup


class MasterWeightAdam:
    """Adam with float32 master weights and gradient clipping by norm.

    Args:
        model: its trainable parameters are stepped in place.
        learning_rate: step size.
        max_grad_norm: norm over all gradients to which they are cut.
        way_out: advice for what diverges.

    Raises:
        ConfigError: for a learning rate whose steps float32 cannot hold.
    """

    def __init__(
        self, model: torch.nn.Module, learning_rate: float, max_grad_norm: float, way_out: str = UPDATE
    ) -> None:
        if not learning_rate < torch.finfo(torch.float32).max / 10:  # the first step is ten times as large
            raise ConfigError(f"the learning rate is {learning_rate}, whose steps float32 cannot hold: {way_out}")
        self._weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._masters = {
            name: p if p.dtype == torch.float32 else p.detach().float() for name, p in self._weights.items()
        }
        self._adam = torch.optim.Adam(self._masters.values(), lr=learning_rate)
        self._max_grad_norm = max_grad_norm
        self._way_out = way_out

    def step(self, processes: ProcessGroup | None = None) -> float:
        """Takes a step against the gradients, clears them, and returns their norm before clipping.

        With `processes` the gradients are summed over processes. Raises `Diverged` if one is not finite; the weights
        are then as before.
        """
        for name, master in self._masters.items():
            weight = self._weights[name]
            if master is not weight and weight.grad is not None:
                master.grad, weight.grad = weight.grad.float(), None
        if processes and processes.world_size > 1:
            self._all_reduce(processes)
        norm = float(torch.nn.utils.clip_grad_norm_(self._masters.values(), self._max_grad_norm))
        if not math.isfinite(norm):
            self._adam.zero_grad(set_to_none=True)
        require_finite("the norm of the gradient", norm, self._way_out)
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, master in self._masters.items():
                if master is not self._weights[name]:
                    self._weights[name].copy_(master)
        return norm

    def require_finite_weights(self) -> None:
        """Raises `Diverged` if a weight is not finite, or so large that its square is not in float32."""
        with torch.no_grad():
            extremes = [extreme for weight in self._weights.values() for extreme in torch.aminmax(weight)]
            largest = torch.stack(extremes).float().square().max()
        require_finite("the square of a weight", float(largest), self._way_out)

    def _all_reduce(self, processes: ProcessGroup) -> None:
        """Sums gradients over all processes; a process without rows of its own has none."""
        known = {name for name, master in self._masters.items() if master.grad is not None}
        known = known.union(*processes.all_gather(known))
        masters = [master for name, master in self._masters.items() if name in known]
        for master in masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        processes.all_reduce([master.grad for master in masters])

    def checksum(self) -> str:
        """Returns a checksum of the weights that are stepped, to the bit."""
        sums = [master.detach().view(torch.int32).sum(dtype=torch.int64) for master in self._masters.values()]
        return blake2b(torch.stack(sums).cpu().numpy().tobytes(), digest_size=16).hexdigest()

    def state_tensors(self) -> dict[str, torch.Tensor]:
        """Returns the state by flat names NAME/exp_avg, NAME/exp_avg_sq, NAME/step and NAME/master."""
        flat: dict[str, torch.Tensor] = {}
        for name, master in self._masters.items():
            for kind, value in self._adam.state.get(master, {}).items():
                flat[f"{name}/{kind}"] = value.contiguous()
            if master is not self._weights[name]:
                flat[f"{name}/master"] = master.contiguous()
        return flat

    def restore(self, flat: Mapping[str, torch.Tensor]) -> None:
        """Restores a state that `state_tensors` returned. Raises KeyError for the state of another model."""
        for key, value in flat.items():
            name, _, kind = key.rpartition("/")
            master = self._masters[name]
            if kind == "master":
                with torch.no_grad():
                    master.copy_(value)
            else:
                device: Any = "cpu" if kind == "step" else master.device
                self._adam.state[master][kind] = value.to(device).clone()
