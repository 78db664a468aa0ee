"""CloudWatch metrics of the embedded cloud: what is measured, and how it is kept.

``points`` is how they are kept, ``emf`` how they are read out of log lines (both pure), ``feeds``
where they come from. What the alarms make of them is ``stockpipe.local.emulator.alarms``.
"""
