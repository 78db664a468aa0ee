"""One small class per kind of resource, one module per service."""
