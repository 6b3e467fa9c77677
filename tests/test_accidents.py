"""Accidents on other machines. Most are told by a docker that does not do what it should: a stand-in on
the path that keeps what it was asked, so that these tests take no engine and next to no time."""

import json
import os
import pathlib
import shutil
import tempfile

import pytest

from lab import ENVIRONMENT, ROOT, end, needs_docker, one_line, run, start, until

DOCKER = r"""#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
version*)
	[ "$ACCIDENT" != words ] || { echo "$WORDS" >&2 && exit 1; }
	echo 20.10 ;;
"compose version"*) [ "$ACCIDENT" != compose ] && echo 2.40.3 ;;
"ps -a --filter label=com.docker.compose.project=$OTHER "*) echo /home/other/lab/stack ;;
"image inspect"*) [ "$ACCIDENT" != pull ] && [ "$ACCIDENT" != hang ] ;;
pull*)
	echo $$ >"$CALLS.pull"
	[ "$ACCIDENT" != hang ] || exec sleep 300
	echo "$WORDS" >&2
	exit 1 ;;
"volume inspect"*) exit 1 ;;
"info"*) echo "$WORDS" ;;
"compose"*"ps -q"* | "compose"*"ps -aq"*) echo 0123 ;;
"inspect"*Healthcheck*) printf 'CMD\ntrue\n' ;;
"inspect"*) echo running ;;
exec*) : >"$CALLS.answers" ;;
esac
"""
# Nothing listens on this machine, or what is asked for has just come up.
CURL = '#!/bin/sh\n[ "$ACCIDENT" = up ] || { [ "$ACCIDENT" = slow ] && [ -e "$CALLS.answers" ]; } || exit 7\n'


class Scene:
    """A copy of scripts/ and stack/ where anybody may read them, behind that docker."""

    def __init__(self, folder):
        self.folder, self.calls, self.env_file = folder, folder / "calls", folder / "lab/stack/.env"
        left_out = shutil.ignore_patterns(".env*")
        for name in ("scripts", "stack"):
            shutil.copytree(ROOT / name, folder / "lab" / name, ignore=left_out)
        (folder / "bin").mkdir()
        for name, text in (("docker", DOCKER), ("curl", CURL)):
            (folder / "bin" / name).write_text(text)
        run("chmod", "-R", "a+rX,u+x", folder)
        run("chmod", "a+x", *folder.glob("bin/*"))
        self.env = ENVIRONMENT | {"PATH": f"{folder}/bin:{os.environ['PATH']}", "CALLS": str(self.calls)}

    def command(self, script, *arguments):
        return [self.folder / f"lab/scripts/{script}.sh", *arguments]

    def accident(self, kind="", words="", other="none"):
        self.calls.write_text("")
        return self.env | {"ACCIDENT": kind, "WORDS": words, "OTHER": other}

    def run(self, kind, words, script, *arguments, other="none", code=1, **named):
        return run(*self.command(script, *arguments), env=self.accident(kind, words, other), code=code, **named)

    def asked(self, word):
        """Whether docker compose was asked for that."""
        return f" {word} " in self.calls.read_text()


@pytest.fixture
def scene():
    with tempfile.TemporaryDirectory(prefix="modelmock-") as folder:
        os.chmod(folder, 0o755)
        yield Scene(pathlib.Path(folder))


@pytest.fixture
def nobody():
    if os.geteuid() != 0:
        pytest.skip("only root may be somebody else: sudo -E scripts/test.sh accidents")
    return {"user": 65534, "group": 65534, "extra_groups": []}


PULLS = [
    ("manifest for prom/prometheus:v0 not found: manifest unknown: manifest unknown", "no such version"),
    ('Get "https://registry.example/v2/": dial tcp: lookup registry.example: no such host', "is this machine online?"),
    ("toomanyrequests: You have reached your pull rate limit.", "registry's limit"),
    ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "the disk is full"),
]


@pytest.mark.parametrize("words, todo", PULLS, ids=[todo for _, todo in PULLS])
def test_an_image_that_cannot_be_had(scene, words, todo):
    said = scene.run("pull", words, "up", "prometheus")
    assert todo in said and "prom/prometheus" in said
    assert said.count("up.sh: ") == 1
    assert not scene.asked("up")


def test_a_registry_that_hangs(scene):
    # It is given a minute.
    said = scene.run("hang", "", "up", "prometheus", timeout=90)
    assert "its registry does not answer" in said
    assert not scene.asked("up")


def test_a_pull_that_is_interrupted(scene):
    with open(scene.folder / "said", "wb") as said:
        up = start(*scene.command("up", "prometheus"), env=scene.accident("hang"), stdout=said, stderr=said)
    pull = until(10, "the pull", lambda: int((scene.folder / "calls.pull").read_text()))
    end(up)
    assert "interrupted" in (scene.folder / "said").read_text()
    until(5, "the end of the pull", lambda: not pathlib.Path(f"/proc/{pull}").exists())


WORDS = [
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "engine is not running"),
    ("permission denied while trying to connect to the Docker daemon socket", "no permission for Docker's socket"),
    ("Error response from daemon: client version 1.52 is too new. Maximum supported API version is 1.41", "client version 1.52 is too new"),
    ('unable to resolve docker endpoint: context "school": context not found', "context not found"),
    ("error during connect: command [ssh -- lab docker system dial-stdio] has exited with exit status 255", "exit status 255"),
]


@pytest.mark.parametrize("words, told", WORDS, ids=[told for _, told in WORDS])
def test_dockers_words_are_told_apart(scene, words, told):
    said = scene.run("words", words, "up", "prometheus")
    assert told in said
    one_line(said)


def test_without_curl_docker_compose_or_an_engine(scene):
    few = scene.folder / "few"
    few.mkdir()
    for tool in ("sh", "dirname", "sed", "id", "awk", "paste"):
        (few / tool).symlink_to(shutil.which(tool))

    def says(words, **changed):
        said = run(*scene.command("up", "mailpit"), code=1, env=ENVIRONMENT | changed)
        assert words in said
        one_line(said)

    says("curl is missing", PATH=str(few))
    (few / "curl").symlink_to(scene.folder / "bin/curl")
    says("Docker is missing", PATH=str(few))
    assert "docker compose of version 2 or later is missing" in scene.run("compose", "", "up", "prometheus")
    needs_docker()
    says("engine is not running", DOCKER_HOST=f"unix://{scene.folder}/none.sock")


def test_without_permission_for_the_real_engine(scene, nobody):
    needs_docker()
    said = run(*scene.command("up", "mailpit"), code=1, **nobody)
    assert "no permission for Docker's socket" in said
    one_line(said)


def test_an_unknown_service_is_wrong_usage(scene):
    assert "there is no service 'nonsense'" in scene.run("", "", "up", "nonsense", code=2)


@pytest.mark.parametrize(
    "other, script, arguments, refused",
    [
        ("modelmock", "up", ["prometheus"], True),
        ("modelmock", "down", ["--volumes"], True),
        ("modelmock-store", "store", ["down", "--volumes"], True),
        ("modelmock", "store", ["down"], False),
        ("modelmock-store", "down", [], False),
    ],
)
def test_another_folders_stack_is_left_alone_and_hinders_no_other(scene, other, script, arguments, refused):
    said = scene.run("", "", script, *arguments, other=other, code=int(refused))
    assert ("/home/other/lab/stack" in said) == refused
    assert (scene.asked("up") or scene.asked("down")) != refused
    if refused:
        one_line(said)


ENGINES = [
    ("Docker Desktop docker-desktop [name=seccomp,profile=unconfined name=cgroupns]", "Enable host networking"),
    ("Debian GNU/Linux 13 (trixie) laptop [name=seccomp,profile=builtin name=rootless name=cgroupns]", "runs rootless"),
    ("Ubuntu 24.04.3 LTS colima [name=apparmor name=seccomp,profile=builtin]", "Colima"),
]


@pytest.mark.parametrize("words, told", ENGINES, ids=[told for _, told in ENGINES])
def test_an_engine_whose_host_network_is_another(scene, words, told):
    assert told in scene.run("", words, "up", "alertmanager")


def test_a_slow_start_is_not_taken_for_another_network(scene):
    """It comes up between the question from here and the one inside of its container."""
    assert "alertmanager is ready" in scene.run("slow", "", "up", "alertmanager", code=0)


PASSWORDS = [
    "",
    "GRAFANA_PASS",
    "GRAFANA_PASSWORD=\n",
    'GRAFANA_PASSWORD="of the user"\n',
    "GRAFANA_PASSWORD='secret'\n",
    "GRAFANA_PASSWORD=pa$$word\n",
    "GRAFANA_PASSWORD=secret # of the lab\n",
    "GRAFANA_PASSWORD=secret\r\n",
    "GRAFANA_PASSWORD=secret\nGRAFANA_PASSWORD=another\n",
    "GRAFANA_PASSWORD=one\n",
]


@pytest.mark.parametrize("text", PASSWORDS)
def test_a_password_that_compose_reads_differently_is_refused(scene, text):
    scene.env_file.write_bytes(text.encode())
    said = scene.run("", "", "up", "prometheus")
    assert f"{scene.env_file} must have one line" in said
    one_line(said)
    assert not scene.asked("up")
    # It hinders nobody from stopping, whatever else runs.
    scene.run("", "", "down", code=0)
    scene.run("up", "", "store", "down", code=0)
    assert scene.asked("down")
    assert scene.env_file.read_bytes() == text.encode()


@pytest.mark.parametrize("password", ["secret", "0123456789abcdef", "a_b.c,d:e@f+g=h/i~j^k-l"])
def test_a_password_that_is_taken_is_the_same_to_compose(scene, password):
    """Which students ask, too, as in docker compose logs."""
    needs_docker()
    scene.env_file.write_text(f"# of the lab\n\nGRAFANA_PASSWORD={password}\n")

    def of(configuration):
        return json.loads(configuration)["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]

    file = scene.folder / "lab/stack/compose.yaml"
    assert of(run("docker", "compose", "-f", file, "config", "--format", "json")) == password
    # What is exported is not what the file says.
    by_scripts = ["sh", "-c", '. "${0%/*}/common.sh"; read_password; compose config --format json', scene.folder / "lab/scripts/up.sh"]
    assert of(run(*by_scripts, env=ENVIRONMENT | {"GRAFANA_PASSWORD": "exported"})) == password


def test_a_password_that_somebody_else_made(scene, nobody):
    """As after sudo scripts/up.sh."""
    scene.env_file.write_text("GRAFANA_PASSWORD=secret\n")
    scene.env_file.chmod(0o600)
    scene.calls.touch()
    scene.calls.chmod(0o666)
    said = scene.run("", "", "up", "prometheus", **nobody)
    assert str(scene.env_file) in said
    one_line(said)
    assert not scene.asked("up")


def test_a_full_disk_leaves_no_half_file(scene):
    env = scene.accident() | {"CALLS": "/dev/null"}
    said = run("sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *scene.command("up", "prometheus"), env=env, code=1)
    assert f"cannot write {scene.env_file}" in said
    assert not list(scene.env_file.parent.glob(".env*"))


def test_every_sh_with_cdpath(scene, record_property):
    env = scene.accident(other="modelmock") | {"CDPATH": str(scene.folder)}
    tried = []
    for shell in ("sh", "dash", "bash --posix", "busybox sh", "zsh --emulate sh"):
        if shutil.which(shell.split()[0]):
            tried.append(shell)
            assert "up.sh [SERVICE...]" in run(*shell.split(), "lab/scripts/up.sh", "-h", cwd=scene.folder, env=env)
            said = run(*shell.split(), "lab/scripts/up.sh", "prometheus", cwd=scene.folder, env=env, code=1)
            assert "/home/other/lab/stack" in said
            one_line(said)
    record_property("measured", f"shells: {', '.join(tried)}")
