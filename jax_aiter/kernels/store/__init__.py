"""AITER's files: where they are, what is trusted, how they are brought into the cache."""

from jax_aiter.kernels.manifest import AITER_COMMIT as AITER_COMMIT
from jax_aiter.kernels.store.add import VerificationError as VerificationError
from jax_aiter.kernels.store.add import add as add
from jax_aiter.kernels.store.add import add_aiter as add_aiter
from jax_aiter.kernels.store.location import NOWHERE as NOWHERE
from jax_aiter.kernels.store.location import Location as Location
from jax_aiter.kernels.store.location import aiter_location as aiter_location
from jax_aiter.kernels.store.names import SourceError as SourceError
