"""``python -m mock_accel_dra``."""

import sys

from mock_accel_dra.cli import main

sys.exit(main())
