"""Where a run begins and ends: what it may skip, what it removes, what it must have left alone, its count."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from lab import RUN, ROOT, WORK, Lab, Model, docker, end, free_ports, remove, start

IN_CI = os.environ.get("CI") == "true"
before = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--pictures", action="store_true", help="take the README's pictures anew, into stack/pictures")


@pytest.fixture(scope="module")
def make_lab(request):
    """Makes copies of the lab, each with a name, and removes them when the file of tests is done."""
    labs = []

    def make(name, **named):
        labs.append(Lab(name, **named))
        return labs[-1]

    yield make
    for lab in labs:
        lab.remove()


@pytest.fixture
def tmp_path():
    """Below the project, as not every engine can mount what lies elsewhere, and for all to read."""
    path = pathlib.Path(tempfile.mkdtemp(dir=WORK))
    path.chmod(0o755)
    return path


@pytest.fixture
def model():
    """Starts models on ports of their own, until the test ends."""
    models = []

    def start_model(*arguments, port=None):
        models.append(Model(port or free_ports(1)[0]))
        return models[-1].start(*arguments)

    yield start_model
    for each in models:
        each.stop()


@pytest.fixture
def process():
    """Starts processes, until the test ends."""
    processes = []

    def start_process(*command, **named):
        processes.append(start(*command, **named))
        return processes[-1]

    yield start_process
    for each in processes:
        end(each)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skip is a failure, unless an image cannot be had."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and call.excinfo.typename != "ImageMissing":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI may not: {call.excinfo.value}"
    return report


def pytest_collection_modifyitems(items):
    """The build first, as all need it, then what takes long; what is measured comes when most is done."""
    order = ["cargo", "walk", "walk_log", "walk_alert", "stack", "store", "class", "kit", "check", "alert", "up", "accidents", "files", "cost"]
    place = {f"test_{name}": number for number, name in enumerate(order)}
    items.sort(key=lambda item: place.get(item.path.stem, len(order) - 2))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """What is measured has the machine for itself: nothing else runs beside it."""
    with open(WORK / "machine", "w") as machine:
        fcntl.flock(machine, fcntl.LOCK_EX if item.path.stem in ("test_cargo", "test_cost") else fcntl.LOCK_SH)
        return (yield)


def is_worker(config):
    return hasattr(config, "workerinput")


def has_engine():
    return shutil.which("docker") and subprocess.run(["docker", "version"], capture_output=True).returncode == 0


def what_is_there():
    """What the engine has, but for what another run has just now, and the user's password: a line each."""
    kept = [f"{file.name} {file.read_bytes()}" for file in ROOT.glob("stack/.env*")]
    if has_engine():
        form = 'container {{.ID}} {{.Names}} {{.Label "com.docker.compose.project"}} {{.Label "modelmock.tests"}}'
        kept += docker("ps", "-a", "--format", form).splitlines()
        kept += docker("network", "ls", "--format", "network {{.ID}} {{.Name}}").splitlines()
        volumes = docker("volume", "ls", "-q").split()
        if volumes:
            # One that was removed and made again is as empty as one that is gone.
            made = docker("volume", "inspect", "-f", "volume {{.Name}} {{.CreatedAt}}", *volumes, code=None).splitlines()
            # Another run's may be gone by now.
            kept += [line for line in made if line.startswith("volume ")]
    return {line for line in kept if "modelmock-test-" not in line or RUN in line}


def pytest_sessionstart(session):
    if is_worker(session.config):
        return
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What is started in the background has SIGINT ignored, and then Python raises nothing.
        signal.signal(ending, signal.default_int_handler)
    session.config.stash[before] = what_is_there()
    WORK.mkdir(parents=True)
    WORK.chmod(0o755)


def clean_up():
    """Ends and removes what carries this run's ID, whoever was interrupted while starting it."""
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 2)):
        deadline = time.monotonic() + patience
        while (pids := processes_of_this_run()) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            time.sleep(0.2)
    if has_engine():
        remove(RUN)
    shutil.rmtree(WORK, ignore_errors=True)


def processes_of_this_run():
    """Those that have its ID in their environment, which only Linux tells."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"MODELMOCK_RUN={RUN}".encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return [pid for pid in found if pid != os.getpid()]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """All is as it was: what is the user's is there, and nothing else. It counts as a test."""
    if is_worker(session.config):
        return
    clean_up()
    if session.config.option.collectonly:
        return
    there, was = what_is_there(), session.config.stash[before]
    differs = [f"gone: {line}" for line in sorted(was - there)] + [f"left behind: {line}" for line in sorted(there - was)]
    if IN_CI and not any(line.startswith("volume modelmock_") for line in was):
        differs.append("there was no stack with data to look at: run scripts/up.sh mailpit and scripts/down.sh before")
    report = pytest.TestReport(
        nodeid="tests/conftest.py::what_is_the_users_is_as_it_was",
        location=("tests/conftest.py", None, "what_is_the_users_is_as_it_was"),
        keywords={},
        outcome="failed" if differs else "passed",
        longrepr="\n".join(differs) or None,
        when="call",
    )
    stats = session.config.pluginmanager.get_plugin("terminalreporter").stats
    stats.setdefault(report.outcome, []).append(report)
    # What skipped all is no success.
    if differs or len(stats.get("passed", [])) <= 1:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    """What was measured, of tests that passed, too."""
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for _, figure in (each for each in report.user_properties if each[0] == "measured"):
            terminalreporter.write_line(f"measured: {figure}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """The count, alone on the last line."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if is_worker(config) or before not in config.stash or config.option.collectonly:
        return
    count = {kind: len(reporter.stats.get(kind, [])) for kind in ("passed", "subtests passed", "failed", "error", "subtests failed", "skipped")}
    words = f"{count['passed'] + count['subtests passed']} passed, {count['failed'] + count['error'] + count['subtests failed']} failed"
    if count["skipped"]:
        words += f", {count['skipped']} skipped"
    print(words, flush=True)
