"""Performance: measurements, limits, charts."""
