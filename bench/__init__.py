"""Benchmarks: each prints ratios against peers that are measured in the same run.

They are modules of this package, so that one may bear the name of a module of Python's own:
`python -m bench.throughput` from the repository's root, or a file by its path.
"""
