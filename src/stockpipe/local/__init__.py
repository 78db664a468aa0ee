"""The embedded AWS on 127.0.0.1.

``daemon`` is how every command sees it: start, find, look at, stop. ``server`` is the process that
runs in the background. Inside it stand ministack, as ``emulator`` changes it, and what replaces
whole parts of it: ``event_sources`` (Lambda's side of Kinesis and DynamoDB Streams) and ``athena``.
"""
