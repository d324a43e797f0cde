"""`python -m tools.exchange`: the local exchange."""

from __future__ import annotations

import sys

from tools.exchange.server import main

sys.exit(main())
