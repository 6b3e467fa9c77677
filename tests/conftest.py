"""The beginning and end of a run: order, skips, clean-up, count, and a check that the user's things are unchanged."""

import collections
import contextlib
import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from lab import ROOT, RUN, WORK, Lab, Model, docker, free_ports, has_engine, install_command, remove, start, terminate

IN_CI = os.environ.get("CI") == "true"
# Cargo's tests come first, as some of them measure times, then the files that take longest. "..." is for all others.
ORDER = "cargo walk_alerting grade_rules incident_repair walk_alert kit incident walk_log walk_drift incident_safe hand_in"
ORDER += " walk class dist walk_grafana walk_machine podman check stack thanos store dashboard logging messages check_host"
ORDER += " check_alert check_bridge up alert ... files cost"
# Files in which a test may need the tests before it.
BUILD_ON_EACH_OTHER = "alert class hand_in kit logging podman stack store thanos walk walk_alert"
# Their asserts, too, show the values.
pytest.register_assert_rewrite("finished_stack", "sites")
before = pytest.StashKey()
# The failures of fixtures that this process has printed.
printed = set()


def pytest_addoption(parser):
    parser.addoption("--pictures", action="store_true", help="take the lab's pictures again, into stack/lab/pictures")


@pytest.fixture(scope="module")
def make_lab(request):
    """Makes copies of the lab, each with a name, and removes them after the file of tests."""
    def make(name, **named):
        lab = Lab(name, **named)
        request.addfinalizer(lab.remove)
        return lab

    return make


@pytest.fixture
def tmp_path():
    """Below the project, as not every engine can mount other folders, and readable by every user."""
    path = pathlib.Path(tempfile.mkdtemp(dir=WORK))
    path.chmod(0o755)
    return path


@pytest.fixture
def model(request):
    """Starts models, each on a port of its own, until the test ends."""
    def start_model(*arguments, port=None):
        model = Model(port or free_ports(1)[0])
        request.addfinalizer(model.stop)
        return model.start(*arguments)

    return start_model


@pytest.fixture
def process(request):
    """Starts processes, until the test ends."""
    def start_process(*command, **named):
        process = start(*command, **named)
        request.addfinalizer(lambda: terminate(process))
        return process

    return start_process


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """In CI a skip is a failure, unless an image can't be pulled. A fixture that fails is printed once for a file."""
    report = yield
    if report.failed and call.when != "call":
        cause = (item.path, call.excinfo.exconly())
        if cause in printed:
            report.longrepr = f"the same as above: {call.excinfo.exconly().splitlines()[0]}"
        printed.add(cause)
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and call.excinfo.typename != "ImageMissing":
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {call.excinfo.value}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config, items):
    """Sorts the files. In files whose tests build on each other, -k also selects the tests before the selected ones."""
    place = {f"test_{name}": number for number, name in enumerate(ORDER.split())}
    items.sort(key=lambda item: place.get(item.path.stem, place["test_..."]))
    everything = list(items)
    yield
    if config.option.keyword:
        last = {item.path: everything.index(item) for item in items}
        in_order = [path for path in last if path.stem.removeprefix("test_") in BUILD_ON_EACH_OTHER.split()]
        needed = [item for item in everything if item.path in in_order and everything.index(item) < last[item.path]]
        items[:] = sorted({*items, *needed}, key=everything.index)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Cargo's own tests are first and have the machine for themselves, as some of them measure times."""
    first = item.session.items[0]
    while item is not first and first.name == "test_cargo" and not (WORK / "cargo-is-done").exists():
        time.sleep(0.2)
    return (yield)


def pytest_runtest_logreport(report):
    if report.nodeid.endswith("::test_cargo") and report.when != "setup":
        (WORK / "cargo-is-done").touch()


def inventory():
    """A line for each password file, container, volume and network, of properties that don't change by use."""
    found = {f"{file.name} {file.read_bytes()}" for file in ROOT.glob("stack/.env*") if file.is_file()}
    # A container that removes itself may end at any time.
    forms = {
        "container": "{{if not .HostConfig.AutoRemove}}container {{.Id}} {{.Name}} {{json .Config.Labels}}{{end}}",
        "network": "network {{.Id}} {{.Name}} {{json .Labels}}",
        "volume": "volume {{.Mountpoint}} {{.Name}} {{json .Labels}}",
    }
    for kind, form in forms.items() if has_engine() else ():
        names = docker(kind, "ls", "-q", *(["-a"] if kind == "container" else [])).split()
        # Docker names the volumes that belong to one container, and removes them with it.
        names = [name for name in names if not re.fullmatch("[0-9a-f]{64}", name)]
        # Another run may have removed some of them by now.
        lines = docker(kind, "inspect", "-f", form, *names, code=None).splitlines() if names else []
        for line in lines:
            # A volume that was replaced has lost its data: its folder is newer, if this user may see that.
            if line.startswith(kind):
                stat = subprocess.run(["stat", "-c", "%W", line.split()[1]], capture_output=True, text=True)
                found.add(f"{line} {stat.stdout.strip()}")
    return found


def runs(pid):
    """Whether the process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It is another user's.
        return True
    return True


def pytest_sessionstart(session):
    if hasattr(session.config, "workerinput"):
        return
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A process that was started in the background ignores SIGINT, and Python raises no exception then.
        signal.signal(ending, signal.default_int_handler)
    for left in ROOT.glob("target/modelmock-test-*"):
        # A run that was killed couldn't clean up. In a container, it may have had the number of this process.
        if left == WORK or not runs(int(left.name.rpartition("-")[2])):
            clean_up(left.name)
    session.config.stash[before] = inventory()
    WORK.mkdir(parents=True)
    WORK.chmod(0o755)


def clean_up(name):
    """Ends and removes everything that has the run's name."""
    # Only Linux shows the environment of a process. A process may have started another before its end.
    for file in itertools.chain.from_iterable(pathlib.Path("/proc").glob("[0-9]*/environ") for _ in range(3)):
        with contextlib.suppress(OSError):
            pid, variables = int(file.parent.name), file.read_bytes().split(b"\0")
            if f"MODELMOCK_RUN={name}".encode() in variables and pid != os.getpid():
                os.kill(pid, signal.SIGKILL)
    if has_engine():
        remove(name)
    shutil.rmtree(ROOT / "target" / name, ignore_errors=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Cleans up; checks that the user's things are still there and that the run left nothing. It counts as a test."""
    if before not in session.config.stash:
        return
    stats = session.config.pluginmanager.get_plugin("terminalreporter").stats
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)
    differs = []
    try:
        clean_up(RUN)
    except AssertionError as error:
        differs.append(str(error))
    ran = any(stats.get(outcome) for outcome in ("passed", "failed", "skipped", "error"))
    if session.config.option.collectonly or not ran:
        return
    there, was = inventory(), session.config.stash[before]
    differs += [f"gone: {line}" for line in sorted(was - there) if "modelmock-test-" not in line]
    differs += [f"left behind: {line}" for line in sorted(there) if RUN in line]
    if IN_CI and not any(line.startswith("volume ") and " modelmock_" in line for line in was):
        differs.append("no stack with data was there to look at: run scripts/up.sh mailpit, then scripts/down.sh")
    report = pytest.TestReport(
        nodeid="tests/conftest.py::the_users_stack_and_data_are_as_before",
        location=("tests/conftest.py", None, "the_users_stack_and_data_are_as_before"),
        keywords={},
        outcome="failed" if differs else "passed",
        longrepr="\n".join(differs) or None,
        when="call",
    )
    stats.setdefault(report.outcome, []).append(report)
    # A run that skipped everything isn't a success.
    if differs or len(stats.get("passed", [])) <= 1:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def reasons(stats):
    """The number of skipped tests for each reason, the most frequent first."""
    reports = stats.get("skipped", []) + stats.get("subtests skipped", [])
    # A report of a skip is a file, a line, and the reason behind the name of the exception.
    found = [re.sub(r"^(Skipped|lab\.ImageMissing): ", "", report.longrepr[2]) for report in reports]
    if install_command():
        found = [re.sub(r"install the packages? (?=[\w.+ -]+$)", f"{install_command()} ", reason) for reason in found]
    return collections.Counter(found).most_common()


def pytest_terminal_summary(terminalreporter):
    """Why tests were skipped, with one command that installs the missing packages, and the measured figures."""
    packages = {}
    for reason, count in reasons(terminalreporter.stats):
        terminalreporter.write_line(f"skipped {count}: {reason}")
        _, command, names = reason.rpartition(f": {install_command()} ")
        packages |= dict.fromkeys(names.split()) if command else {}
    if packages:
        terminalreporter.write_line("To run them, too, install the missing packages with this command:")
        terminalreporter.write_line(f"{install_command()} {' '.join(packages)}")
    for report in terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", []):
        for _, figure in (each for each in report.user_properties if each[0] == "measured"):
            terminalreporter.write_line(f"measured: {figure}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    """The count, as the last line."""
    # Only the main process has an inventory.
    if before not in config.stash or config.option.collectonly:
        return
    stats = config.pluginmanager.get_plugin("terminalreporter").stats
    kinds = ("passed", "failed", "skipped")
    count = {kind: len(stats.get(kind, [])) + len(stats.get(f"subtests {kind}", [])) for kind in kinds}
    count["failed"] += len(stats.get("error", []))
    if not any(count.values()):
        print("no test was selected: the words behind -k are in no name of a test")
    print(", ".join(f"{number} {kind}" for kind, number in count.items()), flush=True)
