"""Why a call cannot be recorded."""


class RecordError(Exception):
    """Recording this call failed, and would fail again: the text is the rule."""
