"""Where a study is kept: a database, which may go away for a while, or the file of an Optuna journal.

Optuna's heartbeats show which trials are alive: `study.optimize` writes one for each running trial, fails those without
one, and has them run again.
"""

import copy
import functools
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback, get_storage
from optuna.storages._heartbeat import BaseHeartbeat
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError, PendingRollbackError

from sweeping.space import UsageError

# Seconds between two heartbeats of a trial, and after how many without one its process counts as dead.
HEARTBEAT = 20
DEAD = 120

# Seconds for which a sweep waits for a database that has gone away.
PATIENCE = 600

# A server that is gone or has no room, a connection that broke, a deadlock: the same call may succeed later.
AWAY = (OperationalError, InterfaceError, PendingRollbackError)

# The packages of SQLAlchemy's drivers whose names are not those of the drivers.
PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "mysqldb": "mysqlclient"}


class SweepFailed(Exception):
    """A sweep that cannot go on: one sentence, exit code 1."""


def run_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """Enqueues another trial with the settings of one that ended without a result, and how often it was lost.

    Nothing else goes over: neither the pruner's notes about epochs that it has to train again, nor its owner.
    """
    again = copy.copy(trial)
    kept = ["fixed_params", "failed_trial", "retry_history"]
    again.system_attrs = {key: copy.copy(value) for key, value in trial.system_attrs.items() if key in kept}
    again.user_attrs = {key: value for key, value in trial.user_attrs.items() if key == "losses"}
    # How often is up to the sweep: a trial that ended with its sweep is not one that kills its process.
    RetryHeartbeatStaleTrialCallback()(study, again)


class SharedJournal(JournalStorage, BaseHeartbeat):
    """A journal on a shared file system, with heartbeats; Optuna itself has those for databases only."""

    def record_heartbeat(self, trial_id: int) -> None:
        """Says that a trial is alive."""
        with suppress(UpdateFinishedTrialError):
            self.set_trial_user_attr(trial_id, "heartbeat", time.time())

    def _get_stale_trial_ids(self, study_id: int) -> list[int]:
        running = self.get_all_trials(study_id, deepcopy=False, states=(TrialState.RUNNING,))
        signs = {it._trial_id: it.user_attrs.get("heartbeat", it.datetime_start.timestamp()) for it in running}
        return [trial_id for trial_id, last in signs.items() if time.time() - last > DEAD]

    def get_heartbeat_interval(self) -> int:
        """Seconds between two signs."""
        return HEARTBEAT

    def get_heartbeat_stale_trial_callback(self) -> Callable[[optuna.Study, FrozenTrial], None]:
        """What is done about a dead trial."""
        return run_again


def open_storage(where: str, stopped: Callable[[], bool], exclusive: bool = False) -> BaseStorage:
    """A database's URL, or the file of an Optuna journal, which other processes may write too if it is not `exclusive`.

    `stopped` ends the wait for a database that went away.
    """
    if "://" not in where:
        try:
            return (JournalStorage if exclusive else SharedJournal)(JournalFileBackend(where))
        except OSError as error:
            raise UsageError(f"--storage {where} cannot be opened: {error.strerror}") from error
    try:
        url = make_url(where)
    except (ArgumentError, ValueError) as error:
        raise UsageError("--storage takes a file, or a URL like postgresql://user@host/database") from error
    shown = f"--storage {url.render_as_string(hide_password=True)}"
    for attempt in range(5):
        try:
            # A server has a hundred connections or so: the sweep keeps one, and opens another while a thread uses that.
            one = {"pool_size": 1, "max_overflow": -1}
            beating = {"heartbeat_interval": HEARTBEAT, "grace_period": DEAD}
            storage = RDBStorage(where, one, heartbeat_stale_trial_callback=run_again, **beating)
            return patient(get_storage(storage), stopped)
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
    set to the same value, and a second trial is one that nobody runs, or that nobody needs (`study.py`).
    """
    away, given_up = False, False

    def patiently(call: Callable) -> Callable:
        @functools.wraps(call)
        def wait(*args: object, **kwargs: object) -> object:
            nonlocal away, given_up
            began = None
            while True:
                try:
                    result = call(*args, **kwargs)
                except UpdateFinishedTrialError:
                    if began is None:
                        raise
                    # The database took the result, and went away before it said so.
                    result = True
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
                    if not away:
                        away = True
                        print(f"{why}: trying again for {PATIENCE} s", file=sys.stderr, flush=True)
                    time.sleep(1)
                    continue
                if away:
                    away = False
                    print("the database is back", file=sys.stderr, flush=True)
                return result

        return wait

    for name in [*vars(BaseStorage), "record_heartbeat", "_get_stale_trial_ids"]:
        if name.startswith("_get") or not name.startswith("_"):
            setattr(storage, name, patiently(getattr(storage, name)))
    return storage


def reason_of(error: BaseException) -> str:
    """The first line of an error, in the words of the database itself."""
    return str(getattr(error, "orig", None) or error).split("\n")[0]
