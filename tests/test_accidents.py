"""Accidents on other machines. A fake docker on the path behaves like a broken one, and records its calls. A fake date
and a fake sleep make the waits short. Most of these tests don't need an engine."""

import gzip
import os
import pathlib
import shutil
import tempfile

import pytest

from lab import ENVIRONMENT, ROOT, end, needs_docker, needs_root, one_line, run, start, until, without

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
"info"*) echo "$WORDS" ;;
"compose"*" up -d "*) case $ACCIDENT in kit) : >"$CALLS.answers" ;; signal) : >"$CALLS.signal" ;; esac ;;
"compose"*"ps -q"* | "compose"*"ps -aq"*) echo 0123 ;;
"compose"*" restart "*) [ "$ACCIDENT" != desktop ] || : >"$CALLS.answers" ;;
"inspect"*Healthcheck*) printf 'CMD\ntrue\n' ;;
"inspect"*) echo running ;;
exec*) [ "$ACCIDENT" != slow ] || : >"$CALLS.answers" ;;
esac
"""
# Nothing listens on this machine, each address answers with a page, or the service has just come up.
CURL = """#!/bin/sh
[ "$ACCIDENT" != page ] || { echo "$WORDS" && exit; }
[ "$ACCIDENT" = up ] || [ -e "$CALLS.answers" ] || { [ ! -e "$CALLS.signal" ] || kill $PPID; exit 7; }
"""
# Each look at the clock takes two seconds.
DATE = '#!/bin/sh\necho x >>"$CALLS.clock"\nwc -c <"$CALLS.clock" | tr -d " "\n'
DESKTOP = "Docker Desktop docker-desktop [name=seccomp,profile=unconfined name=cgroupns]"


class Scene:
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
        return run(self.lab / f"scripts/{script}.sh", *arguments, env=env, code=code, **named)

    def refuses(self, told, *arguments, **named):
        """It ends with one line, and starts nothing."""
        said = self.run(*arguments, **named)
        assert told in said and not self.asked("up -d")
        one_line(said)

    def asked(self, words):
        """Whether docker compose was called with these words."""
        return f" {words} " in self.calls.read_text()


@pytest.fixture
def scene():
    with tempfile.TemporaryDirectory(prefix="modelmock-") as folder:
        os.chmod(folder, 0o755)
        yield Scene(pathlib.Path(folder))


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
def test_an_accident_is_told_in_one_line(scene, kind, words, told):
    said = scene.run(kind, words, "up", "prometheus")
    assert told in said and said.count("up.sh: ") == 1
    # The progress of a minute, or of twenty seconds.
    assert said.count("\n") <= (8 if kind == "hang" else 3)
    if kind in ("", "dies"):
        assert scene.calls.read_text().count(" restart ") == (kind == "")
    else:
        assert not scene.asked("up -d")


@pytest.mark.parametrize("kind, restarts", [("desktop", True), ("slow", False)])
def test_what_is_not_taken_for_another_network(scene, kind, restarts):
    """Docker Desktop's restart, and a service that comes up between the request from here and the one inside."""
    assert "prometheus is ready" in scene.run(kind, DESKTOP, "up", "prometheus", code=0)
    assert scene.asked("restart") == restarts


def test_an_interrupt_is_told_while_up_looks_whether_a_service_answers(scene):
    said = scene.run("signal", "", "up", "prometheus")
    assert "the services that it started are stopped again" in said and scene.asked("rm -sf")


@pytest.mark.parametrize("command", ["up prometheus", "store up"])
def test_one_up_at_a_time_and_an_interrupt_ends_its_pull(scene, command, tmp_path):
    script, *arguments = command.split()
    env = scene.env("hang") | {"TMPDIR": str(tmp_path)}
    with open(scene.folder / "said", "wb") as said:
        up = start(scene.lab / f"scripts/{script}.sh", *arguments, env=env, stdout=said, stderr=said)
    pull = until(60, "the pull", lambda: int((scene.folder / "calls.pull").read_text()))
    lock = scene.lab / "stack/.env.lock"
    if script == "up":
        scene.refuses(f"another up.sh is starting the stack (process {up.pid})", "up", "", "up", "prometheus")
    end(up)
    assert "interrupted" in (scene.folder / "said").read_text()
    until(60, "the end of the pull", lambda: not pathlib.Path(f"/proc/{pull}").exists())
    assert not lock.exists() and not list(tmp_path.iterdir())
    # A lock stays if the power fails.
    lock.write_text("999999999\n")
    assert "is this machine online" in scene.run("pull", "", "up", "prometheus")


def test_without_curl_docker_or_an_engine(scene):
    needs_docker()
    for words, env in {
        "curl is missing": without(scene.folder / "few", "curl"),
        "Docker is missing": without(scene.folder / "more", "docker"),
        "not running": {"DOCKER_HOST": f"unix://{scene.folder}/none.sock"},
    }.items():
        said = run(scene.lab / "scripts/up.sh", "mailpit", code=1, env=ENVIRONMENT | env)
        assert words in said
        one_line(said)


def test_without_python_a_build_that_fails_counts(scene):
    few = scene.folder / "few"
    few.mkdir()
    for tool in "sh dirname readlink sed awk tee mkdir cat id".split():
        (few / tool).symlink_to(shutil.which(tool))
    (few / "cargo").write_text("#!/bin/sh\nexit 101\n")
    (few / "cargo").chmod(0o755)
    said = run(scene.lab / "scripts/test.sh", env=ENVIRONMENT | {"PATH": str(few), "CI": ""}, code=1)
    assert said.splitlines()[-1].endswith(" passed, 1 failed, 4 skipped")


@pytest.mark.parametrize("name", ["a:b", "a%b", "a&b", "a[b", "a\\b"])
def test_a_path_that_docker_cannot_mount(scene, name):
    scene.lab = scene.lab.rename(scene.folder / name)
    scene.refuses(f"as {scene.lab}: rename the folder", "", "", "up", "prometheus")


@pytest.mark.parametrize("command", ["up", "down", "down --volumes", "store down --volumes"])
def test_a_stack_of_another_copy_stays_as_it_is(scene, command):
    mine, other = ["modelmock", "modelmock-store"][:: -1 if "store" in command else 1]
    told = f"a stack named {mine} is here already, from the folder /home/other/lab/stack"
    scene.refuses(told, "", "", *command.split(), other=mine)
    assert not scene.asked("down")
    # The lab's stack and the store don't hinder each other.
    scene.run("", "", *command.split(), other=other, code=int(command == "up"))
    assert scene.asked("up -d" if command == "up" else "down")


def test_your_own_stack_runs(scene):
    running = {"other": "my-stack", "env": {"FOLDER": f"{scene.lab}/my-stack"}}
    scene.refuses(f"run docker compose down in {scene.lab}/my-stack, which keeps its data", "", "", "up", **running)
    # The model as a container is for that stack, too.
    assert scene.run("", "", "up", "exporter", **running) and scene.asked("up -d")


@pytest.mark.parametrize("verdict, result", [("ok", "1"), ("ok", "1e-05"), ("FAIL", "1.5"), ("FAIL", "NaN")])
def test_a_result_that_is_not_from_0_to_1_is_told(scene, verdict, result):
    said = scene.run("page", f"model_result {result}", "check", "exporter")
    assert f"\n{verdict:5} model_result is from 0 to 1: " in said


def test_a_small_kit_starts_the_services_that_it_holds(scene):
    (scene.lab / "images").mkdir()
    (scene.lab / "modelmock").touch(0o755)
    (scene.lab / "images/prometheus.tar.gz").write_bytes(gzip.compress(b"an image"))
    (scene.lab / "images/list").write_text("exporter modelmock 1 amd64 1 x\nprometheus an/image 2 amd64 1 y\n")
    run("sh", "-c", "sha256sum modelmock images/* >sums", cwd=scene.lab)
    said = scene.run("kit", "", "up", code=0)
    assert "This kit does not hold: alertmanager mailpit grafana" in said
    assert scene.calls.read_text().count("up -d --pull never prometheus\n") == 1
    # Podman's API loads no packed file.
    assert (scene.folder / "calls.loaded").read_bytes() == b"an image"
    # On a Mac, the kit's model is a container.
    (scene.folder / "clock/uname").write_text("#!/bin/sh\necho Darwin\n")
    (scene.folder / "clock/uname").chmod(0o755)
    assert "start the model: scripts/up.sh exporter\n" in scene.run("", "", "check", "exporter")


WRONG = ["", '"user"', "'secret'", "pa$$word", "secret # lab", "secret\r", "one", "one1\nGRAFANA_PASSWORD=two2"]


@pytest.mark.parametrize("text", ["", "GRAFANA_PASS", *(f"GRAFANA_PASSWORD={password}\n" for password in WRONG)])
def test_a_password_that_compose_reads_differently_is_refused(scene, text):
    scene.env_file.write_bytes(text.encode())
    scene.refuses(f"{scene.env_file} must have one line", "", "", "up", "prometheus")
    # The stack can be stopped all the same.
    scene.run("", "", "down", code=0)
    scene.run("up", "", "store", "down", code=0)
    assert scene.asked("down") and scene.env_file.read_bytes() == text.encode()


def test_a_password_with_any_character_that_is_accepted_is_the_same_to_compose(scene):
    """The scripts use this one, and not an exported one."""
    needs_docker()
    scene.env_file.write_text("GRAFANA_PASSWORD=a_b.c,d:e@f+g=h/i~j^k-l\n")
    script = '. "${0%/*}/common.sh"; read_password; compose config'
    env = ENVIRONMENT | {"GRAFANA_PASSWORD": "exported"}
    said = run("sh", "-c", script, scene.lab / "scripts/up.sh", env=env)
    assert "GF_SECURITY_ADMIN_PASSWORD: a_b.c,d:e@f+g=h/i~j^k-l\n" in said


def test_a_password_file_of_another_user_and_no_permission_for_the_engine(scene):
    """As after sudo scripts/up.sh; the folder is the user's."""
    needs_root()
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    scene.env_file.write_text("GRAFANA_PASSWORD=secret\n")
    scene.env_file.chmod(0o600)
    scene.env_file.parent.chmod(0o777)
    scene.refuses(f"may not read {scene.env_file}", "", "", "up", "prometheus", **user)
    needs_docker()
    assert "no permission for Docker's socket" in run(scene.lab / "scripts/up.sh", "mailpit", code=1, **user)


def test_a_folder_in_place_of_the_password_file(scene):
    scene.env_file.mkdir()
    scene.refuses(f"{scene.env_file} is not a file: remove it", "", "", "up", "prometheus")
    said = scene.run("", "", "down", "--volumes")
    assert f"Grafana's password is not: remove {scene.env_file}" in said and "are gone" not in said


def test_a_full_disk_leaves_no_half_file(scene):
    command = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", scene.lab / "scripts/up.sh", "prometheus"]
    said = run(*command, env=scene.env() | {"CALLS": "/dev/null"}, code=1)
    assert f"cannot write {scene.env_file}" in said
    assert not list(scene.env_file.parent.glob(".env*"))


def test_every_shell(scene):
    env = scene.env(other="modelmock", CDPATH=str(scene.folder))
    shells = ("sh", "dash", "bash --posix", "busybox sh", "zsh --emulate sh")
    for shell in (shell for shell in shells if shutil.which(shell.split()[0])):
        said = run(*shell.split(), "lab/scripts/up.sh", "prometheus", cwd=scene.folder, env=env, code=1)
        assert "/home/other/lab/stack" in said
        one_line(said)
