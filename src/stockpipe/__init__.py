"""stockpipe: a serverless stock-market pipeline, on your laptop or in your AWS account."""

__version__ = "0.1.0"
