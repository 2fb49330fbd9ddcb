"""``python -m mock_accel_server``."""

from mock_accel_server.cli import main

main()
