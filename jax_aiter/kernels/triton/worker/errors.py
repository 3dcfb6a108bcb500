"""Why a call cannot be recorded. The text travels to the user's process."""


class RecordError(Exception):
    """AITER's wrapper did something a launch plan cannot replay, or the kernel does not fit the target."""
