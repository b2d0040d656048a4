"""Cells like a cell, among millions that lie on disk."""
