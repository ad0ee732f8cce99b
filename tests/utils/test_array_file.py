import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from d2skill.utils import array_file

ARRAYS = {
    "keys": np.arange(60_000, dtype=np.float32).reshape(-1, 3),
    "rows": np.array([3, 1, 2]),
    "text": np.frombuffer("grün".encode(), np.uint8),
    "nothing": np.zeros((0, 4), np.float32),
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bank.db-keys"
    assert array_file.write(path, "keys", {"head": [1, "ab"]}, ARRAYS)
    return path


@pytest.mark.parametrize("mapped", [0, 1 << 40])
def test_values_and_arrays_come_back(file, monkeypatch, mapped):
    monkeypatch.setattr(array_file, "_MAPPED", mapped)
    found = array_file.read(file, "keys")
    assert found.values == {"head": [1, "ab"]} and found.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found.arrays[name].dtype == array.dtype and not found.arrays[name].flags.writeable
        np.testing.assert_array_equal(found.arrays[name], array)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@settings(max_examples=50)
@given(arrays_of.arrays(np.float32, arrays_of.array_shapes(max_dims=3), elements=st.floats(width=32)))
def test_every_bit_of_any_array_comes_back(tmp_path_factory, array):
    path = tmp_path_factory.mktemp("any") / "file"
    array_file.write(path, "any", {}, {"array": array})
    assert array_file.read(path, "any").arrays["array"].tobytes() == array.tobytes()


def test_damage_another_kind_and_a_missing_file_read_as_none(file):
    whole = file.read_bytes()
    assert array_file.read(file, "state") is None and array_file.read(file.with_name("no"), "keys") is None
    padding = set(range(whole.index(b"]]]") + 3, whole.index(ARRAYS["keys"].tobytes())))
    end = whole.index(ARRAYS["rows"].tobytes()) + ARRAYS["rows"].nbytes
    for at in [*range(0, end, 997), *range(min(padding))]:
        if at not in padding:
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            assert array_file.read(file, "keys") is None, at
    for size in (0, 10, 40, 200, len(whole) // 2, end - 1):
        file.write_bytes(whole[:size])
        assert array_file.read(file, "keys") is None, size
    file.write_bytes(whole)
    assert array_file.read(file, "keys")


def test_what_dead_processes_left_is_removed_and_a_folder_that_is_gone_is_no_error(file):
    old, new = (file.with_name(f".{file.name}.{name}.part") for name in ("12-3", "45-6"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 3600,) * 2)
    assert array_file.write(file, "keys", {}, ARRAYS)
    assert not old.exists() and new.exists(), "the other one may still be written"
    assert not array_file.write(file / "below" / "a file", "keys", {}, ARRAYS)
