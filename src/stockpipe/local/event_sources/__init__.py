"""Event source mappings as AWS documents them, over public APIs only.

``runner`` looks after the mappings, ``crew`` after the shards of one, ``worker`` after one shard:
it reads (``readers``), decides what to invoke and what to keep (``batching``, pure), invokes
(``invocations``) and remembers (``checkpoints``). ``hooks`` is where all of it meets ministack.
"""
