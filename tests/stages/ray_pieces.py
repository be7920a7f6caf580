"""What the tests of Ray run in its workers, which import it."""

import errno
import json
import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from attention_collapse.engine.pieces import Pieces, Round
from attention_collapse.errors import DataError, ModelError
from attention_collapse.files import write_text


def nothing():
    """In place of a model."""


def counted(trace):
    """In place of a model; every loading is a line in the file."""
    with Path(trace).open("a") as lines:
        lines.write(f"{os.getpid()}\n")


def unloadable():
    """A model whose weights are not there."""
    raise ModelError("no weights", expected="weights", remedy="fetch them")


def unloadable_once(flag):
    """A model whose weights the first to look for them does not find."""
    try:
        Path(flag).touch(exist_ok=False)
    except FileExistsError:
        return
    unloadable()


def deadly(trace):
    """A loading that its process does not live through."""
    counted(trace)
    os.kill(os.getpid(), signal.SIGKILL)


def dying(load, parts, flag):
    """The model of `load`, in a worker of which the first to find two files in `parts` is killed there and then."""

    def die():
        while len(list(Path(parts).glob("*.parquet"))) < 2:
            time.sleep(0.002)
        with suppress(FileExistsError):
            Path(flag).touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)

    model = load()
    threading.Thread(target=die, daemon=True).start()
    return model


class Numbers(Pieces):
    """Piece i is i squared; `faults` maps a piece to what happens when it is made, and `trace` gets a line for each."""

    def __init__(self, count, folder, trace, faults=None, seconds=0.0):
        self.trace, self.faults, self.seconds = Path(trace), faults or {}, seconds
        super().__init__((Round("numbers", range(count)),), "number", folder and Path(folder), "x")

    def name(self, piece):
        return f"{piece}.json"

    def write(self, file, made):
        if self.faults.get(made["piece"]) == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_text(file, json.dumps(made))

    def read(self, file):
        return json.loads(file.read_text())

    @contextmanager
    def making(self, model):
        def make(piece):
            with self.trace.open("a") as trace:
                trace.write(f"{piece} {os.getpid()}\n")
            time.sleep(self.seconds)
            fault = self.faults.get(piece)
            once = self.trace.with_name(f"once-{piece}")
            if fault == "poisoned":
                raise DataError(f"piece {piece} is poisoned", expected="a sound one", remedy="mend it")
            if fault == "broken":
                raise ZeroDivisionError("a fault of the code")
            if fault == "kills" or (fault == "kills once" and not once.exists()):
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return {"piece": piece, "square": piece * piece}

        yield make
