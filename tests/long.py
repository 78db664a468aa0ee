"""What is proved at length by ``make test-long``, and in small by ``make test``."""

from __future__ import annotations

import os

import pytest

LONG = pytest.mark.skipif("STOCKPIPE_LONG" not in os.environ, reason="runs with make test-long")
