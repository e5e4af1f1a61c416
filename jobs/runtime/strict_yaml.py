"""YAML that is refused as a whole, with every problem named, or is what its model says."""

import re
import reprlib
from collections.abc import Collection, Hashable
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from jobs.runtime.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


class _UniqueKeys(yaml.SafeLoader):
    """YAML lets a key appear twice and drops the first: a safety rule could vanish so."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"got key {key} twice; allowed once", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse(text: str | bytes, origin: str) -> object:
    """Plain values of a YAML text.

    Args:
        text: the YAML; bytes are UTF-8.
        origin: what the text is, for messages.

    Raises:
        ConfigError: not YAML, or a key twice.

    >>> parse("a: [1, x]", "example")
    {'a': [1, 'x']}
    """
    try:
        return yaml.load(text, _UniqueKeys)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        # The last three: a date of no calendar, a key that is a list, a thousand open brackets.
        detail = " ".join(str(error).split())
        raise ConfigError(f"{origin} got text that is no usable YAML: {detail}") from error


def validated(model: type[Model], tree: object, *, folder: str | None = None) -> Model:
    """``tree`` as a ``model``.

    Args:
        model: what the tree must be.
        tree: plain values.
        folder: what relative paths in the tree are relative to.

    Raises:
        ConfigError: one line per problem: ``<key> got <value>; allowed …``.
    """
    try:
        return model.model_validate(tree, context={"folder": folder})
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise ConfigError("\n".join(_line(model, problem) for problem in problems)) from None


def unknown(where: str, name: object, allowed: Collection[str]) -> str:
    """Message for a name that is none of those allowed, with the likely one first.

    >>> unknown("models", "clp", ["clip", "nsfw"])
    'models got clp; did you mean clip? allowed clip, nsfw'
    """
    close = get_close_matches(str(name), allowed, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{where} got {name}; {hint}allowed {', '.join(allowed)}"


def _line(model: type[BaseModel], problem: Any) -> str:
    location, kind = problem["loc"], problem["type"]
    key = ".".join(str(part) for part in location) or "configuration"
    if kind == "extra_forbidden":
        parent = ".".join(str(part) for part in location[:-1]) or "configuration"
        return unknown(parent, location[-1], _fields_at(model, location[:-1]))
    if kind == "missing":
        return f"{key} got nothing; allowed a value: it has no default"
    if kind == "value_error":  # our own validators say what they got and what is allowed
        return f"{key} {problem['ctx']['error']}"
    if kind == "model_type":
        return f"{key} got {reprlib.repr(problem['input'])}; allowed keys and their values"
    allowed = re.sub(r"^\w+ should (be |have )?", "", problem["msg"])
    return f"{key} got {reprlib.repr(problem['input'])}; allowed {allowed}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        if part in model.model_fields:  # else a list's index or a dict's key: same model inside
            annotation = model.model_fields[str(part)].annotation
            candidates = (annotation, *get_args(annotation))
            model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
