"""The bench: reverse proxies side by side in one run, by CPU time for each request. See ``python -m bench --help``.

Linux only, since it reads ``/proc`` and pins processes. It imports nothing of stickyproxy, and runs it as users do.
"""
