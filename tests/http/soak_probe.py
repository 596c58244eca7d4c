"""Asks a daemon again and again and prints how long each answer took, in a process of its own: what a client waits for must
not be the turn of another thread of the same interpreter.

    soak_probe.py ADDRESS PORT         a line each: name, status, milliseconds
"""

import http.client
import sys
import time

PATHS = {"healthz": "/healthz", "generate": "/generate?length=20&cache_prompt=false"}


def main():
    while True:
        for name, path in PATHS.items():
            connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=300)
            begin = time.monotonic()
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            print(name, answer.status, 1e3 * (time.monotonic() - begin), flush=True)
            connection.close()
        time.sleep(0.02)


if __name__ == "__main__":
    main()
