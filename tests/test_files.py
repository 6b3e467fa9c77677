"""The files of the repository, held against the tools that read them: shellcheck, Compose, promtool, amtool, Git."""

import json
import re
import shutil

import pytest

from lab import ENVIRONMENT, LABEL, ROOT, RUN, docker, fetch, image, names_what_is_there, needs, needs_docker, run
from my_stack import assemble

STACK = ROOT / "stack"
SCRIPTS = [script for script in sorted(ROOT.glob("scripts/*.sh")) if script.stat().st_mode & 0o100]
PAGES = [ROOT / "README.md", *(page for folder in ("src", "stack", "tests") for page in ROOT.glob(f"{folder}/**/*.md"))]


def tool(name, command, *arguments, folder=STACK, **named):
    """Runs the command of an image in the folder."""
    options = ["--rm", "-i", "--label", LABEL, "--network", "none", "--user", "0"]
    options += ["-v", f"{folder}:/stack:ro", "-w", "/stack", "--entrypoint", f"/bin/{command}"]
    return run("docker", "run", *options, image(name), *arguments, **named)


def promtool(*arguments, **named):
    return tool("prom/prometheus", "promtool", *arguments, **named)


def amtool(*arguments, **named):
    return tool("prom/alertmanager", "amtool", *arguments, **named)


def test_shellcheck_accepts_the_scripts():
    needs("shellcheck", "shellcheck")
    scripts = [file for pattern in ("scripts/*.sh", "tests/*.sh", ".ci/*") for file in ROOT.glob(pattern)]
    run("shellcheck", "-x", *scripts, cwd=ROOT)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_prints_its_help_and_refuses_an_unknown_flag(script):
    assert run(script, "-h").startswith(script.name)
    if script.name != "test.sh":  # passes its flags on to pytest
        run(script, "--no-such-flag", code=2)


@pytest.mark.parametrize("files", [["compose"], ["store/compose"], ["store/compose", "store/thanos"]], ids="+".join)
def test_compose_accepts_the_file_and_each_volume_has_a_name(files):
    """Docker creates an unnamed volume for each folder that an image declares and the file doesn't mount."""
    needs_docker()
    options = [word for name in files for word in ("-f", STACK / f"{name}.yaml")] + ["--profile", "*"]
    environment = ENVIRONMENT | {"GRAFANA_PASSWORD": "none"}
    config = json.loads(run("docker", "compose", *options, "config", "--format", "json", env=environment))
    assert len(config["services"]) >= 3
    for name, service in config["services"].items():
        mounts = {mount["target"]: mount for mount in service.get("volumes", [])}
        assert all(mount["type"] == "tmpfs" or mount["source"] for mount in mounts.values()), name
        declared = docker("image", "inspect", "-f", "{{json .Config.Volumes}}", service["image"], code=None)
        if declared.startswith("{"):
            assert set(json.loads(declared)) <= set(mounts), name


def test_each_image_has_a_full_version_and_the_same_one_everywhere():
    # A shorter tag means another program next month, and Grafana publishes no shorter ones.
    files = STACK.glob("**/*.yaml")
    images = {image for file in files for image in re.findall(r"^ *image: *(\S+)", file.read_text(), re.M)}
    assert len(images) >= 4 and all(re.search(r":v?\d+\.\d+\.\d+$", image) for image in images), images
    names = "|".join(re.escape(image.split(":")[0]) for image in images)
    files = [ROOT / name for name in run("git", "ls-files", "-z", cwd=ROOT).split("\0")]
    suffixes = (".md", ".sh", ".yaml", ".yml", ".rs", ".py", ".toml")
    texts = [file.read_text() for file in files if file.suffix in suffixes and file.exists()]
    assert {found for text in texts for found in re.findall(rf"(?:{names}):v?\d[\d.]*\d", text)} == images
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert f"modelmock:{version}" in images


def test_promtool_accepts_the_metrics(model):
    assert promtool("check", "metrics", input=fetch(f"http://127.0.0.1:{model().port}/metrics").encode()) == ""


@pytest.mark.parametrize("file", ["prometheus/prometheus.yml", "store/prometheus/site.yml", "store/thanos/site.yml"])
def test_promtool_accepts_the_configuration(file):
    promtool("check", "config", file)


def test_the_unit_tests_of_the_rules_pass():
    promtool("test", "rules", "prometheus/tests/model.yml")


ROUTES = [
    ("ModelResultHigh", "", "default-route"),
    ("ModelMockDown", "", "default-route"),
    ("ModelResultHigh", "monitoring-a", '{class!=""}'),
    ("ModelMockDown", "monitoring-a", '{alertname="ModelMockDown"}'),
]


@pytest.mark.parametrize("alert, of_class, route", ROUTES)
def test_alertmanager_sends_an_alert_along_its_route(alert, of_class, route):
    labels = [f"alertname={alert}", "instance=localhost:5001"] + [f"class={of_class}"] * bool(of_class)
    command = ["config", "routes", "test", "--tree", "--config.file=alertmanager/alertmanager.yml"]
    assert f"── {route}  receiver: mailbox" in amtool(*command, *labels)


def examples():
    """The examples of the pages under stack/ that name a file of stack/ in their first line."""
    for page in sorted(STACK.glob("**/*.md")):
        for indent, block in re.findall(r"^( *)```yaml\n( *# (?!my-stack/).*?)^ *```$", page.read_text(), re.M | re.S):
            block = re.sub(rf"^{indent}", "", block, flags=re.M)
            yield pytest.param(block, id=block.splitlines()[0].strip("# "))


@pytest.mark.parametrize("block", list(examples()))
def test_an_example_of_a_page_is_valid_in_its_file(block, tmp_path):
    shutil.copytree(STACK / "prometheus", tmp_path / "prometheus")
    configuration = tmp_path / "prometheus/prometheus.yml"
    place = block.splitlines()[0]
    if place.startswith("# alertmanager.yml"):
        (tmp_path / "alertmanager.yml").write_text("route:\n  receiver: mailbox\n" + block)
        amtool("check-config", "alertmanager.yml", folder=tmp_path)
        return
    if place.startswith("# prometheus.yml"):
        configuration.write_text(configuration.read_text() + block)
    elif place.startswith("# targets/class.yml"):
        (tmp_path / "prometheus/targets/class.yml").write_text(block)
    elif place.startswith("# rules/"):
        (tmp_path / "prometheus/rules/own.yml").write_text(block)
    else:
        pytest.fail(f"no file for this example: {place}")
    promtool("check", "config", "prometheus/prometheus.yml", folder=tmp_path)


def test_the_unit_test_of_the_page_on_drift_passes_with_its_rule_only(tmp_path):
    files = assemble((STACK / "extensions.md").read_text())
    for name in ("rules.yml", "drift-test.yml"):
        (tmp_path / name).write_text(files[name])
    promtool("test", "rules", "drift-test.yml", folder=tmp_path)
    (tmp_path / "rules.yml").write_text("groups: []\n")
    promtool("test", "rules", "drift-test.yml", folder=tmp_path, code=1)


def test_the_example_in_the_file_of_the_class_is_valid(tmp_path):
    shutil.copytree(STACK / "prometheus", tmp_path / "prometheus")
    file = tmp_path / "prometheus/targets/class.yml"
    example = re.findall(r"^# (- targets: .*|  .*)$", file.read_text(), re.M)
    assert [line.split(":")[0].strip() for line in example] == ["- targets", "labels", "student", "class"]
    file.write_text("\n".join(example))
    promtool("check", "config", "prometheus/prometheus.yml", folder=tmp_path)


def test_each_file_and_heading_that_a_page_names_exists():
    assert len(PAGES) >= 5
    names_what_is_there(ROOT, PAGES)


def test_each_picture_is_shown_with_a_description():
    pictures = set(STACK.glob("pictures/*.png"))
    shown = {}
    for page in PAGES:
        for source, description in re.findall(r'<img src="([^"]+)" width="\d+" alt="([^"]*)">', page.read_text()):
            shown[(page.parent / source).resolve()] = description
    assert set(shown) == pictures and all(len(description) >= 40 for description in shown.values())
    for picture in pictures:
        assert int.from_bytes(picture.read_bytes()[16:20], "big") >= 600, f"{picture.name} is less than 600 px wide"
    assert len(pictures) >= 5 and sum(picture.stat().st_size for picture in pictures) <= 1.2 * 1024 * 1024


def test_git_for_windows_keeps_the_line_ends(tmp_path):
    run("git", "-c", "core.autocrlf=true", "clone", "--quiet", ROOT, tmp_path / "clone")
    files = [file for folder in ("scripts", "stack") for file in (tmp_path / "clone" / folder).rglob("*.*")]
    assert files and not [file for file in files if file.suffix != ".png" and b"\r" in file.read_bytes()]


# The names of the cases must not match the words after -k.
@pytest.mark.parametrize("arguments", [["limit"], ["-k", "no_such_test"], ["no_such_kind"]], ids=list("123"))
def test_a_run_without_any_test_fails(arguments, tmp_path):
    # A run's name ends with the number of a process that runs; otherwise another run would remove it.
    name = RUN.replace("-test-", "-test-without-")
    without_an_engine = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock", "MODELMOCK_RUN": name, "CI": ""}
    run(ROOT / "scripts/test.sh", "-n0", *arguments, code=range(1, 6), env=ENVIRONMENT | without_an_engine)
