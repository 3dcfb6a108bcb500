"""The paged cache of the indexer's keys: its writer and its gather."""
