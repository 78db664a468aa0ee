"""``python -m stockpipe``."""

from stockpipe.cli.main import main

main()
