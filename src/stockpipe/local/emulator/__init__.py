"""ministack as we run it: its settings, who may enter, what survives, how parts are replaced."""
