"""Every public name imports, is documented, and has an example in its docstring that runs."""

import doctest
import subprocess
import sys

import pytest

import d2skill

NAMES = [name for name in d2skill.__all__ if name != "__version__"]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_public_name_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tests = doctest.DocTestFinder(recurse=False).find(getattr(d2skill, name), name, globs={})
    examples = [test for test in tests if test.examples]
    assert examples, f"the docstring of {name} has no example"
    for test in examples:
        said = []
        doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=said.append)
        assert not said, "".join(said)


def test_all_names_are_there_once_in_order_and_none_other():
    assert d2skill.__all__ == sorted({*d2skill.__all__}) and {*d2skill.__all__} <= {*dir(d2skill)}
    with pytest.raises(AttributeError, match="no attribute nothing"):
        d2skill.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_else_of_it():
    code = "import sys, d2skill; print([name for name in sys.modules if name.startswith('d2skill.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
