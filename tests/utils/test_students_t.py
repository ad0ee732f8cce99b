import pytest

from d2skill.utils.statistics import student


@pytest.mark.parametrize(
    ("degrees", "t"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (9, 2.2622), (30, 2.0423), (1000, 1.9623)],
)
def test_as_in_tables(degrees, t):
    assert student(degrees) == pytest.approx(t, abs=1e-4)


def test_other_shares():
    assert student(4, 0.9) == pytest.approx(2.1318, abs=1e-4)
    assert student(10, 0.99) == pytest.approx(3.1693, abs=1e-4)
