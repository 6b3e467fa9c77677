"""The files of the repository, held against the tools that read them: shellcheck, Compose, promtool, amtool, Git."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from lab import ENVIRONMENT, ROOT, docker, fetch, needs, needs_docker, needs_git, run, until
from links import assert_links_exist
from promtool import amtool, promtool

STACK = ROOT / "stack"
SCRIPTS = [script for script in sorted(ROOT.glob("scripts/*.sh")) if script.stat().st_mode & 0o100]
FOLDERS = ("*", "scripts/*", "src/*", "stack/**/*", "tests/*")
PAGES = [page for folder in FOLDERS for page in ROOT.glob(f"{folder}.md")]


def test_shellcheck_accepts_the_scripts():
    needs("shellcheck", "shellcheck")
    scripts = [file for pattern in ("scripts/**/*.sh", "stack/**/*.sh", "tests/*.sh", ".ci/*") for file in ROOT.glob(pattern)]
    run("shellcheck", "-x", *scripts, cwd=ROOT)


def substitutions(text, at=0, end=None):
    """The commands in $(...), each up to the parenthesis at which bash 3.2 ends it; and where the text ends.

    That bash counts parentheses and quotes, also those of a case and of a comment."""
    found = []
    while at < len(text) and text[at] != end:
        if text[at] == "\\":
            at += 2
        elif text[at] == "#" and end is None and text[at - 1].isspace():
            at = text.index("\n", at)
        elif text[at] == "'" and end != '"':
            at = text.index("'", at + 1) + 1
        elif text[at] == '"' or (text[at] == "(" and end == ")"):
            inner, at = substitutions(text, at + 1, {'"': '"', "(": ")"}[text[at]])
            found += inner
        elif text.startswith("$(", at):
            inner, after = substitutions(text, at + 2, ")")
            is_sum = text.startswith("$((", at)
            found += inner if is_sum else [text[at + 2 : after - 1], *inner]
            at = after
        else:
            at += 1
    return found, at + 1


def test_the_shell_of_macos_finds_the_end_of_each_substitution():
    for script in [file for folder in ("scripts", "stack") for file in sorted(ROOT.glob(f"{folder}/**/*.sh"))]:
        # A here-document may have single quotes of its own.
        here = r"<<-?'?END'?\n((?!\$\().)*?\n\t*END\n"
        for command in substitutions(re.sub(here, "\n", script.read_text(), flags=re.S))[0]:
            done = subprocess.run(["sh", "-n"], input=f"({command})".encode(), capture_output=True)
            assert not done.stderr, f"bash 3.2 ends this substitution too early or too late: $({command})"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_prints_its_help_and_refuses_an_unknown_flag(script):
    assert run(script, "-h").startswith(script.name)
    if script.name != "test.sh":  # passes its flags on to pytest
        run(script, "--no-such-flag", code=2)


FILES = ["compose", "store/compose", "store/compose store/thanos"]


@pytest.mark.parametrize("files", FILES)
def test_each_service_has_limits_and_keeps_its_data_in_a_named_volume(files):
    """Docker creates an unnamed volume for each folder that an image declares and the file doesn't mount."""
    needs_docker()
    options = [word for name in files.split() for word in ("-f", STACK / f"{name}.yaml")] + ["--profile", "*"]
    environment = ENVIRONMENT | {"GRAFANA_PASSWORD": "none"}
    services = json.loads(run("docker", "compose", *options, "config", "--format", "json", env=environment))["services"]
    assert services
    for name, service in services.items():
        assert 0 < int(service["mem_limit"]) == int(service["memswap_limit"]) <= 512 << 20, name
        assert service["cap_drop"] == ["ALL"] and service["pids_limit"], name
        assert service["logging"]["options"]["max-size"], name
        mounts = {mount["target"]: mount for mount in service.get("volumes", [])}
        assert all(mount["type"] == "tmpfs" or mount["source"] for mount in mounts.values()), name
        files = [mount for mount in mounts.values() if mount["type"] == "bind"]
        # A new label for each file of the machine would break a system with SELinux.
        labels = {"/": None}
        assert all(mount["read_only"] for mount in files), name
        assert all(mount["bind"].get("selinux") == labels.get(mount["source"], "z") for mount in files), name
        declared = docker("image", "inspect", "-f", "{{json .Config.Volumes}}", service["image"], code=None)
        if declared.startswith("{"):
            assert set(json.loads(declared)) <= set(mounts), name


def test_the_texts_name_the_version_of_rust_that_cargo_wants():
    oldest = re.search(r'^rust-version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    named = {version for page in PAGES for version in re.findall(r"\bRust (\d+\.\d+)", page.read_text())}
    assert named == {oldest}


def test_the_tests_are_clean():
    run(sys.executable, "-m", "ruff", "check", "--quiet", cwd=ROOT)


def test_the_texts_and_the_code_have_no_misspelt_words():
    run(pathlib.Path(sys.executable).with_name("typos"), "README.md", "src", "scripts", "stack", "tests", cwd=ROOT)


def test_each_image_has_a_full_version_and_the_same_one_everywhere():
    # A shorter tag means another program next month, and Grafana publishes no shorter ones.
    files = STACK.glob("**/*.yaml")
    images = {image for file in files for image in re.findall(r"^ *image: *(\S+)", file.read_text(), re.M)}
    assert len(images) >= 4 and all(re.search(r":v?\d+\.\d+\.\d+$", image) for image in images), images
    names = "|".join(re.escape(image.split(":")[0]) for image in images)
    folders = ("scripts", "src", "stack", "tests")
    files = [ROOT / "README.md", *(file for folder in folders for file in (ROOT / folder).rglob("*.*"))]
    suffixes = (".md", ".sh", ".yaml", ".yml", ".rs", ".py", ".toml")
    texts = [file.read_text() for file in files if file.suffix in suffixes]
    assert {found for text in texts for found in re.findall(rf"(?:{names}):v?\d[\d.]*\d", text)} == images
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert f"modelmock:{version}" in images


def test_promtool_accepts_the_metrics(model):
    assert promtool("check", "metrics", input=fetch(f"http://127.0.0.1:{model().port}/metrics").encode()) == ""


@pytest.mark.parametrize("rules", sorted((STACK / "prometheus/rules").glob("*.yml")), ids=lambda rules: rules.name)
def test_the_unit_tests_of_the_rules_pass(rules):
    promtool("test", "rules", f"prometheus/tests/{rules.name}")


def examples():
    """The examples of the pages under stack/ and of the class's file, with the file of stack/ in their first line."""
    for page in sorted(STACK.glob("**/*.md")):
        blocks = re.findall(r"^( *)```yaml\n( *# (?!my-stack/|incident/).*?)^ *```$", page.read_text(), re.M | re.S)
        for indent, block in blocks:
            yield re.sub(rf"^{indent}", "", block, flags=re.M)
    lines = re.findall(r"^# (- targets: .*|  .*)$", (STACK / "prometheus/targets/class.yml").read_text(), re.M)
    assert [line.split(":")[0].strip() for line in lines] == ["- targets", "labels", "student", "class"]
    yield "\n".join(["# targets/class.yml: its own example", *lines])


def test_the_commands_for_a_class_start_its_models_fill_its_file_and_end_both(tmp_path):
    [page] = [page.read_text() for page in STACK.glob("**/teaching.md")]
    commands = [block for block in re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S) if "models.pid" in block]
    assert len(commands) == 3 and re.findall(r"(\d+) \+ n", page) == ["5100"] * 2
    file = tmp_path / "stack/prometheus/targets/class.yml"
    file.parent.mkdir(parents=True)
    file.write_text(before := (STACK / "prometheus/targets/class.yml").read_text())
    model = tmp_path / "target/release/modelmock"
    model.parent.mkdir(parents=True)
    model.write_text('#!/bin/sh\nexec sleep 300 >"$0.log" 2>&1\n')
    model.chmod(0o755)
    pids = tmp_path / "models.pid"
    # The commands of a teacher come from one terminal: a model that was started there ends there.
    script = "\n".join([commands[0], "cp models.pid started; cp $class filled", *commands[1:]])
    run("sh", "-c", script, cwd=tmp_path)
    started, filled = (tmp_path / "started").read_text().split(), (tmp_path / "filled").read_text()
    assert len(set(started)) == 30
    assert filled.startswith(before) and filled.count("localhost:51") == 30
    assert file.read_text() == before and not pids.exists()
    until(60, "the end of the models", lambda: not [pid for pid in started if pathlib.Path(f"/proc/{pid}").exists()])


@pytest.mark.parametrize("block", list(examples()), ids=lambda block: block.splitlines()[0].strip("# "))
def test_an_example_is_valid_in_its_file(block, tmp_path):
    shutil.copytree(STACK / "prometheus", tmp_path, dirs_exist_ok=True)
    place = re.match("# ([^ :]*)", block)[1]
    if place == "alertmanager.yml":
        (tmp_path / place).write_text("route:\n  receiver: mailbox\n" + block)
        amtool("check-config", place, folder=tmp_path)
        return
    file = tmp_path / place
    before = file.read_text() if place == "prometheus.yml" else ""
    file.write_text(before + block)
    promtool("check", "config", "prometheus.yml", folder=tmp_path)


def test_each_file_and_heading_that_a_page_names_exists():
    assert_links_exist(ROOT, PAGES)


def test_git_leaves_out_what_is_private_and_keeps_the_line_ends_on_windows(tmp_path):
    needs_git()
    private = "stack/.env stack/logs/model.log stack/alertmanager/smtp-password my-stack/answers.md hand-in-7.txt"
    assert run("git", "check-ignore", *private.split(), cwd=ROOT).split() == private.split()
    run("git", "-c", "core.autocrlf=true", "clone", "--quiet", ROOT, tmp_path / "clone")
    files = [file for folder in ("scripts", "stack") for file in (tmp_path / "clone" / folder).rglob("*.*")]
    assert files and not [file for file in files if file.suffix != ".png" and b"\r" in file.read_bytes()]
