"""A package, as one of scib-metrics' own dependencies installs another of this name."""
