"""The formats that experts' weights and rows are stored in."""
