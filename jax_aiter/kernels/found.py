"""Is AITER there, and can this process use it? None of these raises, and none needs a GPU."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from jax_aiter.core.arch import target_arch
from jax_aiter.core.config import config

F = TypeVar("F", bound=Callable[..., Any])


def is_aiter_found() -> bool:
    """AITER's files are at hand: registered with ``jax-aiter kernels add``, or an installed ``amd-aiter``."""
    from jax_aiter.kernels.cache import CacheError
    from jax_aiter.kernels.store import aiter_location

    try:
        return aiter_location() is not None
    except (CacheError, OSError):  # an unreadable cache holds nothing that could be used
        return False


def is_aiter_found_and_supported() -> bool:
    """AITER is found, kernels are enabled (``config.enabled``), and the target is a GPU of gfx9 (gfx942 or gfx950)."""
    try:
        arch = target_arch()
    except RuntimeError:  # the requested backend does not start
        return False
    return bool(config.enabled) and (arch or "").startswith("gfx9") and is_aiter_found()


def if_aiter_supported(function: F) -> F:
    """Decorator: the function runs only where `is_aiter_found_and_supported()`; elsewhere the call returns None."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if is_aiter_found_and_supported() else None

    return wrapper  # type: ignore[return-value]
