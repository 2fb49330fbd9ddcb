"""Building blocks that need no cluster: errors, commands, files, progress, and the files that describe a cluster."""
