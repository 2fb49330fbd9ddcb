"""A cluster from outside: start, restore, attach, deploy, reach its nodes."""
