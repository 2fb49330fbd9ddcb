"""A cluster from outside: start or restore it, attach to it, deploy on it, reach its nodes."""
