"""Accidents on other machines. A fake docker on the path behaves like a broken one, and records its calls. A fake date
and a fake sleep make the waits short. Most of these tests don't need an engine."""

import gzip
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from lab import ENVIRONMENT, ROOT, assert_one_line, needs_docker, needs_root, run, start, terminate, until, without

DOCKER = r"""#!/bin/sh
if [ "$ACCIDENT" = words ] || { [ "$ACCIDENT" = dies ] && grep -q " up -d " "$CALLS"; }; then
	echo "$WORDS" >&2 && exit 1
fi
echo "$*" >>"$CALLS"
case "$*" in
*Server.Arch*) echo amd64 ;;
version*) [ "$ACCIDENT" = old ] && echo 1.40 || echo 1.41 ;;
"compose version"*) [ "$ACCIDENT" != compose ] && echo 2.40.3 ;;
"ps -aq"*) [ "$OTHER" = none ] || echo 0123 ;;
*working_dir*) printf '0123\trunning\tan/image\t%s\t%s\n' "$OTHER" "$FOLDER" ;;
"image inspect"*) case $ACCIDENT in pull | hang) exit 1 ;; kit) [ -e "$CALLS.loaded" ] ;; esac ;;
load*) cat >"$CALLS.loaded" ;;
pull*)
	echo $$ >"$CALLS.pull"
	[ "$ACCIDENT" != hang ] || exec tail -f /dev/null
	echo "$WORDS" >&2 && exit 1 ;;
"compose"*" config") [ "$ACCIDENT" != taken ] || echo "      - --web.listen-address=127.0.0.1:19090" ;;
"info"*) echo "$WORDS" ;;
"compose"*" up -d "*) case $ACCIDENT in kit | locked) : >"$CALLS.answers" ;; signal) : >"$CALLS.signal" ;; esac ;;
"compose"*"ps -q"* | "compose"*"ps -aq"*) [ "$ACCIDENT" = theirs ] || echo 0123 ;;
"compose"*" restart "*) [ "$ACCIDENT" != desktop ] || : >"$CALLS.answers" ;;
"inspect"*Healthcheck*) printf 'CMD\ntrue\n' ;;
"inspect"*) echo running ;;
exec*) [ "$ACCIDENT" != slow ] || : >"$CALLS.answers" ;;
esac
"""
# Nothing listens on this machine, each address answers with a page, or the service has just come up.
CURL = """#!/bin/sh
echo "curl $*" >>"$CALLS"
[ "$ACCIDENT" != page ] || { echo "$WORDS" && exit; }
case "$*" in *http_code*/api/user) [ "$ACCIDENT" != locked ] || { echo "$WORDS" && exit; } ;; esac
case $ACCIDENT in up | taken | theirs) exit ;; esac
[ -e "$CALLS.answers" ] || { [ ! -e "$CALLS.signal" ] || kill $PPID; exit 7; }
"""
# Each look at the clock takes two seconds.
DATE = '#!/bin/sh\necho x >>"$CALLS.clock"\nwc -c <"$CALLS.clock" | tr -d " "\n'
DESKTOP = "Docker Desktop docker-desktop [name=seccomp,profile=unconfined name=cgroupns]"


class FakeMachine:
    """A copy of scripts/ and stack/, which all users may read, and the fake programs."""

    def __init__(self, folder):
        self.folder, self.calls, self.lab = folder, folder / "calls", folder / "lab"
        self.env_file = self.lab / "stack/.env"
        for name in ("scripts", "stack"):
            shutil.copytree(ROOT / name, self.lab / name, ignore=shutil.ignore_patterns(".env*"))
        fakes = {"bin/docker": DOCKER, "bin/curl": CURL, "clock/date": DATE, "clock/sleep": "#!/bin/sh\n"}
        for name, text in fakes.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        run("chmod", "-R", "a+rX,u+x", folder)
        self.path = f"{folder}/bin:{os.environ['PATH']}"

    def env(self, kind="", words="", other="none", **env):
        for file in self.folder.glob("calls*"):
            file.unlink()
        self.calls.touch()
        self.calls.chmod(0o666)
        given = {"PATH": self.path, "CALLS": str(self.calls), "ACCIDENT": kind, "WORDS": words, "OTHER": other}
        return ENVIRONMENT | {"FOLDER": "/home/other/lab/stack"} | given | env

    def run(self, kind, words, script, *arguments, other="none", code=1, env=(), **named):
        env = self.env(kind, words, other, **{"PATH": f"{self.folder}/clock:{self.path}"} | dict(env))
        named.setdefault("cwd", self.lab)
        return run(self.lab / f"scripts/{script}.sh", *arguments, env=env, code=code, **named)

    def refuses(self, told, *arguments, **named):
        """It ends with one line, and starts nothing."""
        output = self.run(*arguments, **named)
        assert told in output and not self.asked("up -d")
        assert_one_line(output)

    def asked(self, words):
        """Whether docker compose was called with these words."""
        return f" {words} " in self.calls.read_text()


@pytest.fixture
def machine():
    with tempfile.TemporaryDirectory(prefix="modelmock-") as folder:
        os.chmod(folder, 0o755)
        yield FakeMachine(pathlib.Path(folder))


# The accident, Docker's message, and words of up.sh's message.
ACCIDENTS = [
    ("pull", "manifest for an/image:v0 not found: manifest unknown: manifest unknown", "does not have this version"),
    ("pull", 'Get "https://registry.example/v2/": lookup registry.example: no such host', "is this machine online?"),
    ("pull", "toomanyrequests: You have reached your pull rate limit.", "the registry's limit for today is reached"),
    ("pull", "write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "the disk is full"),
    ("hang", "", "its registry does not answer"),
    ("compose", "", "docker compose of version 2 or later is missing"),
    ("old", "", "engine is too old: its API is version 1.40"),
    ("words", "Error response from daemon: client version 1.52 is too new.", "client version 1.52 is too new"),
    ("words", "Cannot connect to the Docker daemon at unix:///docker.sock. Is it running?", "engine is not running"),
    ("dies", "Cannot connect to the Docker daemon at unix:///docker.sock. Is it running?", "engine is not running"),
    ("", DESKTOP, "Docker Desktop 4.36 or later, turn on"),
    ("", "Debian GNU/Linux 13 laptop [name=seccomp,profile=builtin name=rootless]", "before version 29.5"),
    ("", "Ubuntu 24.04.3 LTS colima [name=apparmor name=seccomp,profile=builtin]", "Colima"),
]


@pytest.mark.parametrize("kind, words, told", ACCIDENTS)
def test_an_accident_is_told_in_one_line(machine, kind, words, told):
    output = machine.run(kind, words, "up", "prometheus")
    assert told in output and output.count("up.sh: ") == 1
    # The progress of a minute, or of twenty seconds.
    assert output.count("\n") <= (8 if kind == "hang" else 3)
    if kind in ("", "dies"):
        assert machine.calls.read_text().count(" restart ") == (kind == "")
    else:
        assert not machine.asked("up -d")


@pytest.mark.parametrize("kind, restarts", [("desktop", True), ("slow", False)])
def test_what_is_not_taken_for_another_network(machine, kind, restarts):
    """Docker Desktop's restart, and a service that comes up between the request from here and the one inside."""
    assert "prometheus is ready" in machine.run(kind, DESKTOP, "up", "prometheus", code=0)
    assert machine.asked("restart") == restarts


def test_an_interrupt_is_told_while_up_looks_whether_a_service_answers(machine):
    output = machine.run("signal", "", "up", "prometheus")
    assert "the services that it started are stopped again" in output and machine.asked("rm -sf")


@pytest.mark.parametrize("command", ["up prometheus", "store up", "grade --rule README.md"])
def test_one_up_at_a_time_and_an_interrupt_ends_its_pull(machine, command, tmp_path):
    script, *arguments = command.split()
    env = machine.env("hang") | {"TMPDIR": str(tmp_path)}
    with open(machine.folder / "output", "wb") as output:
        up = start(machine.lab / f"scripts/{script}.sh", *arguments, env=env, stdout=output, stderr=output)
    pull = until(60, "the pull", lambda: int((machine.folder / "calls.pull").read_text()))
    lock = machine.lab / "stack/.env.lock"
    if script == "up":
        machine.refuses(f"another up.sh is starting the stack (process {up.pid})", "up", "", "up", "prometheus")
    terminate(up)
    assert script == "grade" or "interrupted" in (machine.folder / "output").read_text()
    until(60, "the end of the pull", lambda: not pathlib.Path(f"/proc/{pull}").exists())
    assert not lock.exists() and not list(tmp_path.iterdir())
    # A lock stays if the power fails.
    lock.write_text("999999999\n")
    assert "is this machine online" in machine.run("pull", "", "up", "prometheus")


def test_of_runs_that_find_the_lock_of_a_run_that_was_killed_one_goes_on(tmp_path):
    library, lock, begin, end = ROOT / "scripts/lib/alone.sh", tmp_path / "lock", tmp_path / "begin", tmp_path / "end"
    words = f"""die() {{ exit 1; }}; . "{library}"; until [ -e "{begin}" ]; do :; done
        take_lock "{lock}" busy; until [ -e "{end}" ]; do sleep 0.1; done"""
    for _ in range(3):
        lock.write_text("999999999\n")
        runs = [start("sh", "-c", words, stderr=subprocess.DEVNULL) for _ in range(6)]
        begin.touch()
        until(60, "five refusals", lambda: sum(run.poll() == 1 for run in runs) == 5)
        assert len(lock.read_text()) > 1
        end.touch()
        assert sorted(run.wait(60) for run in runs) == [0, 1, 1, 1, 1, 1]
        begin.unlink()
        end.unlink()
        assert not list(tmp_path.iterdir())


def test_a_lock_whose_number_comes_late_stays(tmp_path):
    lock = tmp_path / "lock"
    lock.touch()
    # The other run writes its number during the second wait.
    words = f"""die() {{ echo "$1"; exit 1; }}; . "{ROOT}/scripts/lib/alone.sh"
        waits=0; sleep() {{ waits=$((waits + 1)); [ $waits -lt 2 ] || echo {os.getpid()} >"{lock}"; }}
        take_lock "{lock}" busy"""
    assert f"another sh is busy (process {os.getpid()})" in run("sh", "-c", words, code=1)
    assert lock.read_text() == f"{os.getpid()}\n"


def test_without_curl_docker_or_an_engine(machine):
    needs_docker()
    for words, env in {
        "curl is missing": without(machine.folder / "few", "curl"),
        "Docker is missing": without(machine.folder / "more", "docker"),
        "not running": {"DOCKER_HOST": f"unix://{machine.folder}/none.sock"},
    }.items():
        output = run(machine.lab / "scripts/up.sh", "mailpit", code=1, env=ENVIRONMENT | env)
        assert words in output
        assert_one_line(output)


@pytest.mark.parametrize("name", ["a:b", "a%b", "a&b", "a[b", "a\\b"])
def test_a_path_that_docker_cannot_mount(machine, name):
    machine.lab = machine.lab.rename(machine.folder / name)
    machine.refuses(f"as {machine.lab}: rename the folder", "", "", "up", "prometheus")


@pytest.mark.parametrize("command", ["up", "down", "down --volumes", "store down --volumes"])
def test_a_stack_of_another_copy_stays_as_it_is(machine, command):
    mine, other = ["modelmock", "modelmock-store"][:: -1 if "store" in command else 1]
    told = f"a stack named {mine} is here already, from the folder /home/other/lab/stack"
    machine.refuses(told, "", "", *command.split(), other=mine)
    assert not machine.asked("down")
    # The lab's stack and the store don't hinder each other.
    machine.run("", "", *command.split(), other=other, code=int(command == "up"))
    assert machine.asked("up -d" if command == "up" else "down")


def test_your_own_stack_runs(machine):
    running = {"other": "my-stack", "env": {"FOLDER": f"{machine.lab}/my-stack"}}
    machine.refuses(f"run docker compose down in {machine.lab}/my-stack, which keeps its data", "", "", "up", **running)
    # The model as a container is for that stack, too.
    assert machine.run("", "", "up", "exporter", **running) and machine.asked("up -d")


@pytest.mark.parametrize("verdict, result", [("ok", "1"), ("ok", "1e-05"), ("FAIL", "1.5"), ("FAIL", "NaN")])
def test_a_result_that_is_not_from_0_to_1_is_told(machine, verdict, result):
    output = machine.run("page", f"model_result {result}", "check", "exporter")
    assert f"\n{verdict:5} model_result is from 0 to 1: " in output


def test_a_small_kit_starts_the_services_that_it_holds(machine):
    (machine.lab / "images").mkdir()
    (machine.lab / "modelmock").touch(0o755)
    (machine.lab / "images/prometheus.tar.gz").write_bytes(gzip.compress(b"an image"))
    (machine.lab / "images/list").write_text("exporter modelmock 1 amd64 1 x\nprometheus an/image 2 amd64 1 y\n")
    run("sh", "-c", "sha256sum modelmock images/* >sums", cwd=machine.lab)
    listed = (machine.lab / "images/list").read_text()
    (machine.lab / "images/list").write_text(listed.replace("amd64", "arm64"))
    machine.refuses("this kit is for the processor arm64, and Docker's engine here has amd64", "kit", "", "up")
    (machine.lab / "images/list").write_text(listed)
    output = machine.run("kit", "", "up", code=0)
    assert "This kit does not hold: alertmanager mailpit grafana" in output
    assert machine.calls.read_text().count("up -d --pull never prometheus\n") == 1
    # Podman's API loads no packed file.
    assert (machine.folder / "calls.loaded").read_bytes() == b"an image"
    # On a Mac, the kit's model is a container.
    (machine.folder / "clock/uname").write_text("#!/bin/sh\necho Darwin\n")
    (machine.folder / "clock/uname").chmod(0o755)
    assert "start the model: scripts/up.sh exporter\n" in machine.run("", "", "check", "exporter")


def test_a_folder_for_pictures_does_not_make_a_clone_a_kit(machine):
    (machine.lab / "images").mkdir()
    (machine.lab / "Cargo.toml").touch()
    assert "start the model: cargo run --release\n" in machine.run("", "", "check", "exporter")


@pytest.mark.parametrize("grafana, asked", [("up", True), ("theirs", False)])
def test_the_store_asks_no_other_grafana_than_the_labs(machine, grafana, asked):
    """Another one would refuse the password, and five wrong ones lock its user."""
    machine.env_file.write_text("GRAFANA_PASSWORD=secret77\n")
    machine.run(grafana, "", "store", "down", code=0)
    assert ("DELETE" in machine.calls.read_text()) == asked


@pytest.mark.parametrize("code, resets", [("401", True), ("200", False)])
def test_data_of_an_earlier_start_gets_the_password_of_the_file(machine, code, resets):
    assert "Grafana" in machine.run("locked", code, "up", "grafana", code=0)
    assert machine.asked("reset-admin-password") == resets


def test_a_port_that_the_store_needs_and_another_program_has_is_told(machine):
    machine.refuses("port 19090, which the store needs, is taken", "taken", "", "store", "up")


def test_an_unknown_service_is_told_before_docker(machine):
    daemon = "Cannot connect to the Docker daemon at unix:///docker.sock."
    machine.refuses("unknown service 'nonsense'", "words", daemon, "up", "nonsense", code=2)


@pytest.mark.parametrize("name", ["nonsense", "99", "10-reload", "../../scripts/lib/common"])
def test_an_unknown_incident_is_told(machine, name):
    machine.refuses(f"unknown incident '{name}': choose a number from 1 to 10, or mystery", "", "", "incident", "start", name, code=2)


def test_an_incident_takes_one_name_and_none_can_be_ended_twice(machine):
    both = ("start", "typo", "--number", "7", "hang")
    machine.refuses("start takes one name, not 'typo' and 'hang'", "", "", "incident", *both, code=2)
    assert machine.run("", "", "incident", "end", code=0) == "No incident was open.\n"


def test_without_an_engine_the_check_says_so_once(machine):
    output = machine.run("words", "Cannot connect to the Docker daemon at unix:///docker.sock.", "check")
    assert output.count("engine is not running") == 1


WRONG = ["", '"user"', "'secret'", "pa$$word", "secret # lab", "secret\r", "one", "one1\nGRAFANA_PASSWORD=two2"]


@pytest.mark.parametrize("text", ["", "GRAFANA_PASS", *(f"GRAFANA_PASSWORD={password}\n" for password in WRONG)])
def test_a_password_that_compose_reads_differently_is_refused(machine, text):
    machine.env_file.write_bytes(text.encode())
    machine.refuses(f"{machine.env_file} must have one line", "", "", "up", "prometheus")
    # The stack can be stopped all the same.
    machine.run("", "", "down", code=0)
    machine.run("up", "", "store", "down", code=0)
    assert machine.asked("down") and machine.env_file.read_bytes() == text.encode()


@pytest.mark.parametrize("password", ["a_b.c,d:e@f+g=h/i~j^k-l", "abcd"])
def test_a_password_with_any_character_that_is_accepted_is_the_same_to_compose(machine, password):
    """The scripts use this one, and not an exported one. Four characters are enough."""
    needs_docker()
    machine.env_file.write_text(f"GRAFANA_PASSWORD={password}\n")
    script = '. "${0%/*}/lib/common.sh"; read_password; compose config'
    env = ENVIRONMENT | {"GRAFANA_PASSWORD": "exported"}
    output = run("sh", "-c", script, machine.lab / "scripts/up.sh", env=env)
    assert f"GF_SECURITY_ADMIN_PASSWORD: {password}\n" in output


def test_a_password_file_of_another_user_and_no_permission_for_the_engine(machine):
    """As after sudo scripts/up.sh; the folder is the user's."""
    needs_root()
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    machine.env_file.write_text("GRAFANA_PASSWORD=secret\n")
    machine.env_file.chmod(0o600)
    machine.env_file.parent.chmod(0o777)
    machine.refuses(f"may not read {machine.env_file}", "", "", "up", "prometheus", **user)
    needs_docker()
    assert "no permission for Docker's socket" in run(machine.lab / "scripts/up.sh", "mailpit", code=1, **user)


def test_a_folder_in_place_of_the_password_file(machine):
    machine.env_file.mkdir()
    machine.refuses(f"{machine.env_file} is not a file: remove it", "", "", "up", "prometheus")
    output = machine.run("", "", "down", "--volumes")
    assert f"Grafana's password is not: remove {machine.env_file}" in output and "are gone" not in output


def test_a_full_disk_leaves_no_half_file(machine):
    command = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", machine.lab / "scripts/up.sh", "prometheus"]
    output = run(*command, env=machine.env() | {"CALLS": "/dev/null"}, code=1)
    assert f"cannot write {machine.env_file}" in output
    assert not list(machine.env_file.parent.glob(".env*"))


def test_every_shell(machine):
    env = machine.env(other="modelmock", CDPATH=str(machine.folder))
    shells = ("sh", "dash", "bash --posix", "busybox sh", "zsh --emulate sh")
    for shell in (shell for shell in shells if shutil.which(shell.split()[0])):
        output = run(*shell.split(), "lab/scripts/up.sh", "prometheus", cwd=machine.folder, env=env, code=1)
        assert "/home/other/lab/stack" in output
        assert_one_line(output)


@pytest.mark.parametrize("arguments", ["--images", "--images --volumes", ""])
def test_down_removes_the_images_only_on_request(machine, arguments):
    machine.env_file.write_text("GRAFANA_PASSWORD=secret\n")
    machine.run("up", "", "down", *arguments.split(), code=0)
    removed = {line.split()[-1] for line in machine.calls.read_text().splitlines() if line.startswith("image rm ")}
    named = set(re.findall(r"^ *image: *(\S+)", (machine.lab / "stack/compose.yaml").read_text(), re.M))
    assert removed == (named if arguments else set())
    assert ("--volumes" in machine.calls.read_text()) == ("--volumes" in arguments)
