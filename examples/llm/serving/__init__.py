"""Serving: requests that come and go share one decoder, one paged cache and a fixed set of compiled programs.

From below: `blocks` owns the cache's blocks, `scheduler` says which tokens of which requests a step computes, `runner` computes
them in one of the shapes of `settings`, `sampling` draws tokens, `text` makes text of them, `engine` is all of it, one step at
a time and without threads. `worker` runs an engine in a thread, `app` speaks OpenAI's HTTP interface. ``python -m
examples.llm.server`` starts it.
"""
