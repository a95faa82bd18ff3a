"""The parts of `scripts/sweep.py`.

space.py       what a sweep varies: the TOML file, read and checked
settings.py    settings as flags of the program
conditions.py  settings that are drawn only if others have certain values
objectives.py  what a sweep looks for: accuracy, time, parameters
known.py       known good settings that are tried first
trial.py       one trial: runs of `tch-mnist train`, their JSON lines, how they ended
places.py      where trials run: this machine, or a Ray cluster
study.py       the sweep on Optuna: what it is told, and which trials count when several processes share a study
storage.py     where a study is kept; heartbeats; a database that goes away for a while
progress.py    how far it is, and the time left
results.py     sweep.csv and best.toml
pictures.py    the pictures
winner.py      the winner and [fixed] alone over several seeds, on the test images
"""
