"""What stands in the repository, held against the real tools: the code's form, the scripts', stack/, the README."""

import re
import shutil

import pytest

from lab import ENVIRONMENT, LABEL, ROOT, RUN, fetch, image, names_what_is_there, needs, needs_docker, run

STACK = ROOT / "stack"
SCRIPTS = sorted(set(ROOT.glob("scripts/*.sh")) - {ROOT / "scripts/common.sh"})


def tool(name, command, *arguments, folder=STACK, **named):
    """promtool or amtool out of the image that the stack uses, or this machine's own, in the folder."""
    try:
        of = image(name)
    except pytest.skip.Exception:
        if shutil.which(command):
            return run(command, *arguments, cwd=folder, **named)
        raise
    mounted = ["--rm", "-i", "--label", LABEL, "--network", "none", "--user", "0", "-v", f"{folder}:/stack:ro", "-w", "/stack"]
    return run("docker", "run", *mounted, "--entrypoint", f"/bin/{command}", of, *arguments, **named)


def promtool(*arguments, **named):
    return tool("prom/prometheus", "promtool", *arguments, **named)


def amtool(*arguments, **named):
    return tool("prom/alertmanager", "amtool", *arguments, **named)


def test_shellcheck():
    needs("shellcheck", "shellcheck")
    run("shellcheck", "-x", *(file for place in ("scripts/*.sh", "tests/*.sh", ".ci/*") for file in ROOT.glob(place)), cwd=ROOT)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_help(script):
    assert run(script, "-h").startswith(script.name)
    if script.name != "test.sh":  # what it does not know is pytest's
        run(script, "--no-such-flag", code=2)


@pytest.mark.parametrize("file", [STACK / "compose.yaml", STACK / "store/compose.yaml"], ids=lambda file: file.parent.name)
def test_docker_compose_config(file):
    needs_docker()
    run("docker", "compose", "-f", file, "config", "--quiet", env=ENVIRONMENT | {"GRAFANA_PASSWORD": "none"})


def test_each_image_is_pinned_and_named_alike_everywhere():
    # Grafana publishes full versions only, and any shorter tag means another program next month.
    images = set(re.findall(r"^ *image: *(\S+)", (STACK / "compose.yaml").read_text(), re.M))
    assert len(images) >= 4
    loose = [image for image in images if not re.search(r":v?\d+\.\d+\.\d+$", image)]
    assert not loose
    names = "|".join(re.escape(image.split(":")[0]) for image in images)
    listed = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    texts = (ROOT / name for name in listed if name.endswith((".md", ".sh", ".yaml", ".yml", ".rs", ".py", ".toml")))
    named = {full for text in texts if text.exists() for full in re.findall(rf"(?:{names}):v?\d[\d.]*\d", text.read_text())}
    assert named == images
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert f"modelmock:{version}" in images


def test_promtool_check_metrics(model):
    page = fetch(f"http://127.0.0.1:{model().port}/metrics").encode()
    said = promtool("check", "metrics", input=page)
    assert said == ""


@pytest.mark.parametrize("file", ["prometheus/prometheus.yml", "store/store.yml", "store/site.yml"])
def test_promtool_check_config(file):
    promtool("check", "config", file)


def test_promtool_test_rules():
    promtool("test", "rules", "prometheus/tests/model.yml")


def test_amtool_check_config():
    amtool("check-config", "alertmanager/alertmanager.yml")


ROUTES = [
    ("ModelResultHigh", "", "default-route"),
    ("ModelMockDown", "", "default-route"),
    ("ModelResultStale", "", "default-route"),
    ("ModelResultHigh", "monitoring-a", '{class!=""}'),
    ("ModelResultStale", "monitoring-a", '{class!=""}'),
    ("ModelMockDown", "monitoring-a", '{alertname="ModelMockDown"}'),
]


@pytest.mark.parametrize("alert, of_class, route", ROUTES)
def test_an_alert_takes_its_route(alert, of_class, route):
    labels = [f"alertname={alert}", "instance=localhost:5001"] + [f"class={of_class}"] * bool(of_class)
    of = ["config", "routes", "test", "--tree", "--verify.receivers=mailbox", "--config.file=alertmanager/alertmanager.yml"]
    assert f"── {route}  receiver: mailbox" in amtool(*of, *labels)


def yaml_blocks():
    """The configurations that the texts show; each says in its first line where it belongs."""
    blocks = []
    for text in [ROOT / "README.md", *sorted(STACK.glob("**/*.md"))]:
        for indent, block in re.findall(r"^( *)```yaml\n(.*?)^ *```$", text.read_text(), re.M | re.S):
            block = re.sub(rf"^{indent}", "", block, flags=re.M)
            blocks.append(pytest.param(block, id=block.splitlines()[0].strip("# ")))
    return blocks


@pytest.mark.parametrize("block", yaml_blocks())
def test_a_configuration_of_the_texts(block, tmp_path):
    shutil.copytree(STACK / "prometheus", tmp_path / "prometheus")
    file = tmp_path / "prometheus/prometheus.yml"
    place = block.splitlines()[0]
    if place.startswith("# alertmanager.yml"):
        (tmp_path / "alertmanager.yml").write_text("route:\n  receiver: mailbox\n" + block)
        amtool("check-config", "alertmanager.yml", folder=tmp_path)
        return
    if place.startswith("# prometheus.yml: in the place of alerting"):
        file.write_text(re.sub(r"^alerting:.*?\n\n", "", file.read_text(), flags=re.M | re.S) + block)
    elif place.startswith("# prometheus.yml"):
        file.write_text(file.read_text() + block)
    elif place.startswith("# targets/class.yml"):
        (tmp_path / "prometheus/targets/class.yml").write_text(block)
    else:
        pytest.fail(f"nothing checks this block: {place}")
    promtool("check", "config", "prometheus/prometheus.yml", folder=tmp_path)


def test_what_the_texts_name_is_there():
    texts = [ROOT / "README.md", *(text for folder in ("src", "stack", "tests") for text in ROOT.glob(f"{folder}/**/*.md"))]
    assert len(texts) >= 5
    names_what_is_there(ROOT, texts)


def pictures():
    return sorted(STACK.glob("pictures/*.png"))


def test_the_readmes_pictures():
    readme = (ROOT / "README.md").read_text()
    for picture in pictures():
        shown = rf'<img src="{picture.relative_to(ROOT)}" width="\d+" alt="[^"]{{40,}}">'
        assert re.search(shown, readme), f"{picture.name} is not in the README with an alt that tells what is seen"
        assert int.from_bytes(picture.read_bytes()[16:20], "big") >= 600, f"{picture.name} is less than 600 px wide"
    for source in re.findall(r'src="([^"]*)"', readme):
        assert (ROOT / source).exists(), source
    assert len(pictures()) >= 9
    assert sum(picture.stat().st_size for picture in pictures()) <= 1.2 * 1024 * 1024


def test_git_for_windows_changes_no_lines_end(tmp_path):
    run("git", "-c", "core.autocrlf=true", "clone", "--quiet", ROOT, tmp_path / "clone")
    files = [file for folder in ("scripts", "stack") for file in (tmp_path / "clone" / folder).rglob("*.*") if file.suffix != ".png"]
    assert files and not [file for file in files if b"\r" in file.read_bytes()]


@pytest.mark.parametrize("arguments", [["limit"], ["-k", "no_such_test"], ["no_such_kind"]], ids=["no engine", "no test", "no kind"])
def test_the_tests_are_not_green_where_nothing_ran(arguments, tmp_path):
    without_an_engine = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "MODELMOCK_RUN": f"{RUN}-without", "CI": ""}
    run(ROOT / "scripts/test.sh", "-n0", *arguments, code=range(1, 6), env=ENVIRONMENT | without_an_engine)
