"""Asks a daemon again and again and prints how long each answer took. It is a process of its own, so no other thread of the
same interpreter delays it.

    soak_probe.py ADDRESS PORT         prints a line per answer: name, status, milliseconds
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
