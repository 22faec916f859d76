"""Faults inside a child process. Python imports this module before the program where its folder is in PYTHONPATH.

FAULTS_SEED   decides every fault
FAULTS_CLOCK  seconds between two steps of the clock, each to a time up to twelve hours before or after the right one
FAULTS_DISK   share of os.fsync calls that fail; of a file of records, half of these lose the end of the last line
FAULTS_LOG    file that each fault adds a line to, with its kind
"""

import contextlib
import datetime
import errno
import os
import random
import time

_DICE = random.Random(os.environ["FAULTS_SEED"])
_LOG = os.open(os.environ["FAULTS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
_EVERY, _SHARE = (float(os.environ.get(name, "0")) for name in ("FAULTS_CLOCK", "FAULTS_DISK"))
_REAL = {name: getattr(time, name) for name in ("time", "time_ns")}, datetime.datetime, os.fsync


def _log(kind):
    with contextlib.suppress(OSError):  # the log may be what a full disk refuses
        os.write(_LOG, f"{kind}\n".encode())


class _Clock:
    """How many seconds the clock is ahead now."""

    def __init__(self):
        self.ahead, self.next = 0.0, time.monotonic()

    def __call__(self):
        if time.monotonic() >= self.next:
            self.ahead, self.next = _DICE.uniform(-43_200, 43_200), time.monotonic() + _EVERY * _DICE.uniform(0.5, 1.5)
            _log("clock step")
        return self.ahead


class _Instances(type):
    """A real datetime, which C code makes, is an instance of the stepped class too."""

    def __instancecheck__(cls, instance):
        return isinstance(instance, _REAL[1])


class _Datetime(datetime.datetime, metaclass=_Instances):
    @classmethod
    def now(cls, tz=None):
        return _REAL[1].now(tz) + datetime.timedelta(seconds=_ahead())


def _fsync(file):
    if _DICE.random() >= _SHARE:
        return _REAL[2](file)
    number = file if isinstance(file, int) else file.fileno()
    code = _DICE.choice((errno.EIO, errno.ENOSPC))
    kind = f"fsync fails with {errno.errorcode[code]}"
    if os.readlink(f"/proc/self/fd/{number}").endswith(".jsonl") and _DICE.random() < 0.5:
        os.ftruncate(number, max(0, os.fstat(number).st_size - _DICE.randrange(1, 300)))
        kind += ", the last line is torn"
    _log(kind)
    raise OSError(code, os.strerror(code))


if _EVERY:
    _ahead = _Clock()
    time.time = lambda: _REAL[0]["time"]() + _ahead()
    time.time_ns = lambda: _REAL[0]["time_ns"]() + int(_ahead() * 1e9)
    datetime.datetime = _Datetime
if _SHARE:
    os.fsync = _fsync
