"""What the unit tests share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for fake_lab, driver_device
