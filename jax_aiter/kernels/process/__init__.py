"""Worker processes that record and compile: how they are started and asked, and what they run."""
