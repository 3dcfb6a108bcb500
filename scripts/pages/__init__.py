"""What `mkdocs build` adds to docs/: pages made of the records, the README as the first page, links out of docs."""
