"""Commands in processes of their own, forked from one that has imported the suite: the import is most of a start."""

import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

CONTEXT = multiprocessing.get_context("forkserver")  # nothing has run in it that does not survive a fork
CONTEXT.set_forkserver_preload(["xmodal.studies.trial", "xmodal.commands.sweep", "wandb.apis.public"])


def start(*words, out, module="xmodal", prepare=None, folder=None, **environment):
    """Start `python -m MODULE WORDS` in a session of its own.

    Args:
        words: of the command.
        out: path of a file, to which standard output and errors are added; or one of each.
        module: whose `__main__` runs; None for nothing but `prepare`.
        prepare: a function of a module, called before.
        folder: in which it works, and all that it starts; the test's home by default.
        environment: more variables.

    Returns:
        The process; it is no child of the test, but of the server of forks.
    """
    folder, files = folder or os.environ["XMODAL_HOME"], out if isinstance(out, tuple) else (out, out)
    process = CONTEXT.Process(target=_main, args=(module, words, files, folder, {**os.environ, **environment}, prepare))
    process.start()
    return process


def run(*words, timeout=200, **more):
    """`start`, to its end: `returncode`, `stdout` and `stderr`, as of `subprocess.run`."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "out"), Path(folder, "err")
        process = start(*words, out=files, **more)
        process.join(timeout)
        process.kill()
        out, err = (path.read_text() for path in files)
    return SimpleNamespace(returncode=process.exitcode, stdout=out, stderr=err)


def _main(module, words, files, folder, environment, prepare):
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(files, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = [module, *words]
    if prepare:
        prepare()
    if module:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
