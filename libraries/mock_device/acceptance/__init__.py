"""Runs the acceptance suites with pabot on a pool of clusters, and merges their results into one report."""
