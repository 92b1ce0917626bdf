"""Parameters of plain classes, in scikit-learn's manner and without importing it."""

from __future__ import annotations

import inspect
from typing import Any, Self

import imsim


class Parameterised:
    """Give a class `get_params`, `set_params` and a `repr` from the signature of its ``__init__``.

    ``__init__`` must store every argument, as it is, under its own name, and check none of them:
    `sklearn.base.clone` and parameter searches then work on the class, and on what holds it.
    """

    @classmethod
    def _signature(cls) -> dict[str, inspect.Parameter]:
        _, *parameters = inspect.signature(cls.__init__).parameters.values()
        return {parameter.name: parameter for parameter in parameters}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments this object was made with.

        Parameters
        ----------
        deep : bool, optional
            Whether to add the parameters of those arguments that have some, as ``name__theirs``.

        Returns
        -------
        dict
            Name -> value.
        """
        own = {name: getattr(self, name) for name in self._signature()}
        if not deep:
            return own
        nested = {
            f"{name}__{inner}": inner_value
            for name, value in own.items()
            if hasattr(value, "get_params") and not isinstance(value, type)
            for inner, inner_value in value.get_params().items()
        }
        return own | nested

    def set_params(self, **parameters: Any) -> Self:
        """Set parameters by name; what was fitted stays as it was until the next `fit`.

        Parameters
        ----------
        **parameters
            Names as `get_params` returns them, ``name__theirs`` among them.

        Returns
        -------
        self

        Raises
        ------
        OptionError
            If there is no such parameter.
        """
        nested: dict[str, dict[str, Any]] = {}
        for key, value in parameters.items():
            name, is_nested, inner = key.partition("__")
            if name not in self._signature():
                raise imsim.OptionError(
                    f"{type(self).__name__} has no parameter {name!r}; "
                    f"expected one of {', '.join(self._signature())}"
                )
            if is_nested:
                nested.setdefault(name, {})[inner] = value
            else:
                setattr(self, name, value)
        for name, inner_parameters in nested.items():
            owner = getattr(self, name)
            if not hasattr(owner, "set_params"):
                raise imsim.OptionError(
                    f"{name}={owner!r} of {type(self).__name__} has no parameters of its own; "
                    f"set {name} itself"
                )
            owner.set_params(**inner_parameters)
        return self

    def __repr__(self) -> str:
        """The class with the arguments that differ from their defaults."""
        given = [
            f"{name}={value!r}"
            for name, parameter in self._signature().items()
            if repr(value := getattr(self, name)) != repr(parameter.default)
        ]
        return f"{type(self).__name__}({', '.join(given)})"
