"""What a guest sees of the world by WASI. It prints that to its standard output, the job's log: a line for each thing."""

# Named because of `getaddrinfo`, which imports it when it is called: there are no files to import from by then.
import encodings.idna
import os
import socket
import sys
import time


def attempt(what, function):
    """Prints what comes of trying: the name of the error, or that there is none."""
    try:
        function()
    except OSError as error:
        print(f"{what}: {type(error).__name__}")
    else:
        print(f"{what}: done")


def connect(kind):
    """Tries to reach an address of this machine."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.connect(("127.0.0.1", 9))


def bind(kind):
    """Tries to take an address of this machine."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))


def look_around():
    print(f"variables: {sorted(os.environ)}")
    print(f"arguments: {sys.argv[1:]}")
    attempt("folder /", lambda: os.listdir("/"))
    attempt("/etc/passwd, to be opened for r", lambda: open("/etc/passwd"))
    attempt("/tmp/weir-guest, to be opened for w", lambda: open("/tmp/weir-guest", "w"))
    print(f"bytes of standard input: {len(os.read(0, 64))}")
    for name, kind in ("TCP", socket.SOCK_STREAM), ("UDP", socket.SOCK_DGRAM):
        attempt(f"{name}, to connect", lambda: connect(kind))
        attempt(f"{name}, to bind", lambda: bind(kind))
    attempt("localhost, to be looked up", lambda: socket.getaddrinfo("localhost", 80))
    print(f"seconds since 1970: {int(time.time())}")
    before = time.monotonic()
    time.sleep(3600)
    print(f"seconds that an hour takes: {int(time.monotonic() - before)}")
    print(f"random numbers: {os.urandom(16).hex()}", flush=True)
