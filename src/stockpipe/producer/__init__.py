"""Feed to Kinesis: a thread that reads, a bounded buffer, a sender that loses nothing."""
