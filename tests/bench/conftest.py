"""`bench` is no installed package: find it in the checkout, after everything else (the checked build stays first)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
