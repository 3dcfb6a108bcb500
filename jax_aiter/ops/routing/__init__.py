"""Choosing experts."""
