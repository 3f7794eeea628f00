# SPDX-License-Identifier: MIT
"""Whether other threads go on while a function runs."""

import threading
import time


def pace(f):
    """How often another thread counts in a second while f runs."""
    count, running = 0, True

    def run():
        nonlocal count
        while running:
            count += 1

    thread = threading.Thread(target=run)
    thread.start()
    start = time.perf_counter()
    f()
    seconds, during, running = time.perf_counter() - start, count, False
    thread.join()
    return during / seconds
