"""The files of the repository, held against the tools that read them: shellcheck, Compose, promtool, amtool, Git."""

import functools
import json
import re
import shutil

import pytest

from lab import ENVIRONMENT, LABEL, ROOT, docker, fetch, image, names_what_is_there, needs, needs_docker, run

STACK = ROOT / "stack"
SCRIPTS = [script for script in sorted(ROOT.glob("scripts/*.sh")) if script.stat().st_mode & 0o100]
PAGES = [ROOT / "README.md", *(page for folder in ("src", "stack", "tests") for page in ROOT.glob(f"{folder}/**/*.md"))]


def tool(name, command, *arguments, folder=STACK, **named):
    """Runs the command of an image in the folder."""
    options = ["--rm", "-i", "--label", LABEL, "--network", "none", "--user", "0"]
    options += ["-v", f"{folder}:/stack:ro", "-w", "/stack", "--entrypoint", f"/bin/{command}"]
    return run("docker", "run", *options, image(name), *arguments, **named)


promtool = functools.partial(tool, "prom/prometheus", "promtool")
amtool = functools.partial(tool, "prom/alertmanager", "amtool")


def test_shellcheck_accepts_the_scripts():
    needs("shellcheck", "shellcheck")
    scripts = [file for pattern in ("scripts/*.sh", "tests/*.sh", ".ci/*") for file in ROOT.glob(pattern)]
    run("shellcheck", "-x", *scripts, cwd=ROOT)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_prints_its_help_and_refuses_an_unknown_flag(script):
    assert run(script, "-h").startswith(script.name)
    if script.name != "test.sh":  # passes its flags on to pytest
        run(script, "--no-such-flag", code=2)


# Thanos takes the place of the store, with less memory.
MEMORY = {
    512: ["prometheus", "grafana", "store", "site-a", "site-b", "folder"],
    256: ["loki", "store", "router", "receive-1", "receive-2", "receive-3"],
    128: ["alertmanager", "mailpit"],
    64: ["fluent-bit"],
    32: ["exporter"],
}
LIMITS = {
    "network_mode": "host",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "read_only": True,
    "tmpfs": ["/tmp"],
    "pids_limit": 256,
    "logging": {"driver": "json-file", "options": {"max-size": "1m", "max-file": "3"}},
}
READY = {"prometheus": "9090/-/ready", "alertmanager": "9093/-/ready", "grafana": "3000/api/health", "loki": "3100/"}
SETTINGS = {"mailpit": {"MP_MAX_MESSAGES": "500", "MP_DISABLE_VERSION_CHECK": "true"}, "grafana": {"GOGC": "25"}}
FILES = [("compose", 7), ("store/compose", 3), ("store/compose store/thanos", 8)]


@pytest.mark.parametrize("files, count", FILES)
def test_each_service_has_limits_and_stays_down_after_a_reboot_and_its_volumes_have_names(files, count):
    """Docker creates an unnamed volume for each folder that an image declares and the file doesn't mount."""
    needs_docker()
    options = [word for name in files.split() for word in ("-f", STACK / f"{name}.yaml")] + ["--profile", "*"]
    environment = ENVIRONMENT | {"GRAFANA_PASSWORD": "none"}
    services = json.loads(run("docker", "compose", *options, "config", "--format", "json", env=environment))["services"]
    assert len(services) == count
    for name, service in services.items():
        assert name in MEMORY[int(service["mem_limit"]) >> 20], name
        assert {key: service[key] for key in LIMITS} == LIMITS, name
        assert service["memswap_limit"] == service["mem_limit"], name
        health = service.get("healthcheck", {})
        assert READY.get(name, "") in str(health) and health.get("interval", "1m0s") == "1m0s", name
        if kept := re.search(r"retention[.time]*=(\d+)d", str(service.get("command"))):
            assert int(kept[1]) == {"prometheus": 30, "site-a": 15, "site-b": 15}.get(name, 90), name
        assert SETTINGS.get(name, {}).items() <= service.get("environment", {}).items(), name
        assert service["restart"] == ("no" if name == "folder" else "on-failure"), name
        mounts = {mount["target"]: mount for mount in service.get("volumes", [])}
        assert all(mount["type"] == "tmpfs" or mount["source"] for mount in mounts.values()), name
        files = [mount for mount in mounts.values() if mount["type"] == "bind"]
        assert all(mount["read_only"] and mount["bind"]["selinux"] == "z" for mount in files), name
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
    # The README's command that removes the images.
    listed = run("sh", "-c", re.search(r"image rm \$\((.*)\)`", (ROOT / "README.md").read_text())[1], cwd=ROOT).split()
    assert len(listed) == 6 and set(listed) < images


def test_promtool_accepts_the_metrics(model):
    assert promtool("check", "metrics", input=fetch(f"http://127.0.0.1:{model().port}/metrics").encode()) == ""


def test_the_unit_tests_of_the_rules_pass():
    promtool("test", "rules", "prometheus/tests/model.yml")


def examples():
    """The examples of the pages under stack/ and of the class's file, with the file of stack/ in their first line."""
    for page in sorted(STACK.glob("**/*.md")):
        for indent, block in re.findall(r"^( *)```yaml\n( *# (?!my-stack/).*?)^ *```$", page.read_text(), re.M | re.S):
            yield re.sub(rf"^{indent}", "", block, flags=re.M)
    lines = re.findall(r"^# (- targets: .*|  .*)$", (STACK / "prometheus/targets/class.yml").read_text(), re.M)
    assert [line.split(":")[0].strip() for line in lines] == ["- targets", "labels", "student", "class"]
    yield "\n".join(["# targets/class.yml: its own example", *lines])


def test_the_commands_of_a_class_fill_its_file_and_empty_it(tmp_path):
    page, file = (STACK / "teaching.md").read_text(), tmp_path / "class.yml"
    assert re.findall(r"(\d+) \+ n", page) == ["5100"] * 2
    file.write_text(before := (STACK / "prometheus/targets/class.yml").read_text())
    for command, count in ((r"for .*\$class$", 30), ("sed .*", 0)):
        run("sh", "-c", f"class={file}; {re.search(f'^{command}', page, re.M)[0]}")
        assert file.read_text().startswith(before) and file.read_text().count("localhost:51") == count


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
    names_what_is_there(ROOT, PAGES)


def test_git_leaves_out_what_is_private_and_keeps_the_line_ends_on_windows(tmp_path):
    private = "stack/.env stack/logs/model.log stack/alertmanager/smtp-password my-stack/answers.md report-7.txt"
    assert run("git", "check-ignore", *private.split(), cwd=ROOT).split() == private.split()
    run("git", "-c", "core.autocrlf=true", "clone", "--quiet", ROOT, tmp_path / "clone")
    files = [file for folder in ("scripts", "stack") for file in (tmp_path / "clone" / folder).rglob("*.*")]
    assert files and not [file for file in files if file.suffix != ".png" and b"\r" in file.read_bytes()]
