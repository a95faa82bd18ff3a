"""Where a study is kept: a database, which may go away for a while, or the file of an Optuna journal."""

import functools
import random
import sys
import time
from collections.abc import Callable

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError, PendingRollbackError

from sweeping.space import UsageError

# Seconds for which a sweep waits for a database that has gone away.
PATIENCE = 600

# A server that is gone or has no room, a connection that broke, a deadlock: the same call may succeed later.
AWAY = (OperationalError, InterfaceError, PendingRollbackError)

# The packages of SQLAlchemy's drivers whose names are not those of the drivers.
PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "mysqldb": "mysqlclient"}


class SweepFailed(Exception):
    """A sweep that cannot go on: one sentence, exit code 1."""


def open_storage(where: str, stopped: Callable[[], bool]) -> BaseStorage:
    """A database's URL, or the file of an Optuna journal. `stopped` ends the wait for a database that went away."""
    if "://" not in where:
        try:
            return JournalStorage(JournalFileBackend(where))
        except OSError as error:
            raise UsageError(f"--storage {where} cannot be opened: {error.strerror}") from error
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise UsageError("--storage takes a file, or a URL like postgresql://user@host/database") from error
    shown = f"--storage {url.render_as_string(hide_password=True)}"
    for attempt in range(5):
        try:
            return patient(get_storage(RDBStorage(where)), stopped)
        except ImportError as error:
            driver = url.get_driver_name()
            raise UsageError(f"{shown} needs a driver: pip install '{PACKAGES.get(driver, driver)}'") from error
        except Exception as error:
            # If several processes start at once, only one can create the tables; the others find them soon after.
            if not isinstance(error, DatabaseError) or attempt == 4:
                raise UsageError(f"{shown} cannot be opened: {reason_of(error)}") from error
            time.sleep(random.uniform(0.5, 1.5))
    raise AssertionError("the last attempt returns or raises")


def patient(storage: BaseStorage, stopped: Callable[[], bool]) -> BaseStorage:
    """Makes every call of a storage wait while its database is away.

    A call is then made again although it may have succeeded, its answer being lost. That does no harm: what is set is
    set to the same value, and a second trial is one that nobody runs, or that nobody needs (`claims.py`).
    """
    given_up = False

    def patiently(call: Callable) -> Callable:
        @functools.wraps(call)
        def wait(*args: object, **kwargs: object) -> object:
            nonlocal given_up
            began, told = None, False
            while True:
                try:
                    result = call(*args, **kwargs)
                    if told:
                        print("the database is back", file=sys.stderr, flush=True)
                    return result
                except StorageInternalError as error:
                    why = f"the database of --storage does not answer ({reason_of(error.__cause__ or error)})"
                    if not isinstance(error.__cause__, AWAY):
                        raise SweepFailed(why) from error
                    if began is None:
                        # An old connection, perhaps: the server was started again since.
                        began = time.monotonic()
                        continue
                    given_up |= stopped() or time.monotonic() - began > PATIENCE
                    if given_up:
                        raise SweepFailed(f"{why}; the same command goes on with the sweep") from error
                    if not told:
                        print(f"{why}: trying again for {PATIENCE} s", file=sys.stderr, flush=True)
                        told = True
                    time.sleep(1)

        return wait

    for name in dir(BaseStorage):
        if not name.startswith("_"):
            setattr(storage, name, patiently(getattr(storage, name)))
    return storage


def reason_of(error: BaseException) -> str:
    """The first line of an error, in the words of the database itself."""
    return str(getattr(error, "orig", None) or error).split("\n")[0]
