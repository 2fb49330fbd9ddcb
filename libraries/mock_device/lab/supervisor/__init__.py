"""A cluster from inside: the supervisor and the processes that it owns."""
