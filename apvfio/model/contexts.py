# SPDX-License-Identifier: Apache-2.0
"""`suppress`, `nullcontext` and `contextmanager` as in `contextlib`, for the hook's path.

`contextlib` also loads collections, functools and eight more modules: a twentieth of a start.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import contextmanager, nullcontext, suppress

    __all__ = ["contextmanager", "nullcontext", "suppress"]
else:

    class suppress:  # noqa: N801
        """A context that ends at the first of ``errors``, which goes no further."""

        def __init__(self, *errors):
            self._errors = errors

        def __enter__(self):
            return None

        def __exit__(self, kind, error, traceback):
            return kind is not None and issubclass(kind, self._errors)

    class nullcontext:  # noqa: N801
        """A context that gives ``result`` and does nothing."""

        def __init__(self, result=None):
            self._result = result

        def __enter__(self):
            return self._result

        def __exit__(self, *_):
            return None

    def contextmanager(function):
        """Make a function for contexts out of a generator function that yields once."""

        def make(*args, **kwargs):
            return _Context(function(*args, **kwargs))

        make.__doc__ = function.__doc__
        return make

    class _Context:
        def __init__(self, generator):
            self._generator = generator

        def __enter__(self):
            return next(self._generator)

        def __exit__(self, kind, error, traceback):
            try:
                if kind is None:
                    next(self._generator)
                else:
                    self._generator.throw(error)
            except StopIteration as stop:
                return kind is not None and stop is not error
            except BaseException as raised:
                if raised is not error:
                    raise
                return False
            raise RuntimeError("the generator of a context has yielded twice")
