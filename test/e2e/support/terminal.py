"""Runs a program on a terminal of its own, does what a person would, and prints what came of it as JSON.

usage: terminal.py STEPS PROGRAM [ARGUMENT...]

STEPS is a JSON list, done in order:
  {"size": [rows, columns]}                the window has, or gets, this size (the first of all: before the program starts)
  {"type": text, "until": regex}           types the text once, and waits until what came since fits the expression
  {"type": text, "until": regex, "again": true}   types it again each half second until then
  {"kill": signal}                         sends the program a signal
Whatever does not come within 60 s ends it all.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

LIMIT_S = 60


def modes(fd):
    local = termios.tcgetattr(fd)[3]
    return {"echo": bool(local & termios.ECHO), "lines": bool(local & termios.ICANON), "signals": bool(local & termios.ISIG)}


def set_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def main(steps, argv):
    master, slave = pty.openpty()
    if steps and "size" in steps[0]:
        set_size(master, *steps.pop(0)["size"])
    before = termios.tcgetattr(slave)
    child = os.fork()
    if child == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
        os.closerange(3, 256)
        # the test runner's hooks would handle signals in the program's place
        os.environ.pop("NODE_OPTIONS", None)
        os.execvp(argv[0], argv)
    result = {"output": "", "failed": None}
    start = time.monotonic()

    def read(seconds):
        ready, _, _ = select.select([master], [], [], seconds)
        if ready:
            result["output"] += os.read(master, 65536).decode(errors="replace")

    def passed():
        return time.monotonic() - start > LIMIT_S

    def has_ended():
        if "status" not in result:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                result["status"] = status
        return "status" in result

    for step in steps:
        at = len(result["output"])
        if "size" in step:
            set_size(master, *step["size"])
        if "kill" in step:
            os.kill(child, step["kill"])
        if "type" not in step:
            continue
        typed = 0
        while not re.search(step["until"], result["output"][at:]) and not passed() and not has_ended():
            if typed == 0 or (step.get("again") and time.monotonic() - typed > 0.5):
                os.write(master, step["type"].encode())
                typed = time.monotonic()
            read(0.05)
        if not re.search(step["until"], result["output"][at:]):
            result["failed"] = step
            break
        if "modes" not in result:
            result["modes"] = modes(slave)
    while not has_ended():
        if passed() or result["failed"]:
            os.kill(child, 9)
        read(0.05)
    read(0)
    result["code"] = os.waitstatus_to_exitcode(result.pop("status"))
    result["restored"] = termios.tcgetattr(slave) == before
    print(json.dumps(result))


main(json.loads(sys.argv[1]), sys.argv[2:])
