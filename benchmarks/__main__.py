"""`python -m benchmarks`."""

import signal

from benchmarks.cli import app

if __name__ == "__main__":
    # As Ctrl-C does: workers end, and what was measured is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="python -m benchmarks")
