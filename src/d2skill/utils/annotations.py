"""Type annotations in the form that tyro, which makes flags of them, reads fastest."""

from types import UnionType
from typing import Annotated, Any, Union, get_origin


def plain_union(annotation: Any) -> Any:
    """Returns `X | None` as `Optional[X]`, also inside `Annotated`; other annotations as they are.

    tyro checks a default against the second form by itself. For the first, which before Python 3.14 has a type of its
    own, it imports typeguard and with it asyncio: a third of the time that a command takes to start.
    """
    if isinstance(annotation, UnionType):
        return Union[annotation.__args__]  # noqa: UP007
    if get_origin(annotation) is Annotated:
        return Annotated[(plain_union(annotation.__origin__), *annotation.__metadata__)]
    return annotation
