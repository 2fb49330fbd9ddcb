"""``python -m mock_accel_server``."""

import sys

from mock_accel_server.cli import main

sys.exit(main())
