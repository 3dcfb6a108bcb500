"""Writers of paged caches."""
