"""The next token of each row: which tokens may come (top-k, top-p, min-p), one of them at random, and whether drafts are kept."""
