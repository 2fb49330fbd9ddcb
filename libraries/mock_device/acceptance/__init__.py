"""Runs the acceptance suites with pabot over a pool of clusters, and makes one report of it."""
