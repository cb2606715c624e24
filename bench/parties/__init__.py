"""The processes that take part in benchmarks, one module each."""
