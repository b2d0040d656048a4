"""Proteins from files."""
