"""A platform of verl without an accelerator, for tests: FSDP on the CPU over gloo, a Ray resource called GPU.

verl imports this in each of its processes, as VERL_USE_EXTERNAL_MODULES names it and VERL_PLATFORM says cpu.
"""

import contextlib
from types import SimpleNamespace

import torch
import verl.utils.distributed as distributed
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

GIGABYTES = 16 << 30


def nothing(*_given, **_named):
    return None


def zero(*_given, **_named):
    return 0


DOES_NOTHING = """empty_cache synchronize set_device set_rng_state reset_peak_memory_stats ipc_collect manual_seed
manual_seed_all current_stream"""
IS_ZERO = "memory_allocated memory_reserved max_memory_allocated max_memory_reserved current_device"

cpu = SimpleNamespace(
    **dict.fromkeys(DOES_NOTHING.split(), nothing),
    **dict.fromkeys(IS_ZERO.split(), zero),
    is_available=lambda: False,
    device_count=lambda: 1,
    mem_get_info=lambda *_: (GIGABYTES, GIGABYTES),
    get_device_name=lambda *_: "cpu",
    get_device_properties=lambda *_: SimpleNamespace(name="cpu", total_memory=GIGABYTES),
    get_rng_state=lambda *_: torch.get_rng_state(),
    stream=lambda *_: contextlib.nullcontext(),
)


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    device_name, vendor_name, device_module = "cpu", "generic", cpu

    def is_available(self):
        return True

    def current_device(self):
        return "cpu"

    def device_count(self):
        return 1

    set_device = synchronize = set_allocator_settings = empty_cache = profiler_start = profiler_stop = nothing
    cudart = nothing

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, device_index=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, msg):
        return contextlib.nullcontext()

    def ray_resource_name(self):
        return "GPU"

    def ray_noset_envvars(self):
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self):
        return False


over_ray = distributed.initialize_global_process_group_ray


def over_gloo(timeout_second=None, backend=None):
    """verl asks for one backend for each of two devices, here both the CPU, which torch refuses."""
    return over_ray(timeout_second, backend or "gloo")


distributed.initialize_global_process_group_ray = over_gloo
