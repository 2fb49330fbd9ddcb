"""How long it takes: measurements, limits, charts."""
