"""python -m zmock, where zmock is installed."""

import sys

from zmock import main

sys.exit(main())
