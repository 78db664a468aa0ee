"""ministack as it is, in a process of its own: are the flaws that we mend still there?"""

from __future__ import annotations

import json
import os
import subprocess
import sys


def flaws(script: str, **settings: str) -> dict[str, bool]:
    """What ``script`` prints: per flaw, as JSON, whether it is there.

    A flaw that is gone is good news: the mend that the comment above its check names can go.
    """
    environment = {"AUTH": "true", "LOG_LEVEL": "CRITICAL", "PATH": os.environ["PATH"], **settings}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, bool] = json.loads(ran.stdout)
    return found
