"""What check.sh says of programs on the host's network: which of them has the port, its files, rules and targets."""

import re

import pytest

from lab import LABEL, docker, fetch, require_image, run, until
from student import Stack

COMPOSE = """
services:
  prom:
    image: PROMETHEUS
    network_mode: host
    user: root
    working_dir: /files
    command: [--config.file, prometheus.yml, --storage.tsdb.path=/data, "--web.listen-address=127.0.0.1:@9090"]
    volumes: [".:/files", "data:/data"]
volumes: {data: }
"""
PROMETHEUS = """
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [alert.rules]
scrape_configs: [{job_name: a, static_configs: [{targets: ["localhost:@5000"]}]}]
"""
RULES = """
groups: [{name: a, rules: [{alert: High, expr: model_result > 0.9}]}]
"""


@pytest.fixture(scope="module")
def mine(make_lab):
    image = require_image("prom/prometheus")
    lab = make_lab("host")
    compose = COMPOSE.replace("PROMETHEUS", image)
    mine = Stack(lab, {"compose.yaml": compose, "prometheus.yml": PROMETHEUS, "alert.rules": RULES})
    lab.model.start("--value", "0.5")
    mine.up()
    return mine


@pytest.fixture
def restored(mine):
    """The stack, whose files are put back after the test."""
    yield mine
    mine.restore()
    mine.up()
    reload(mine)


def reload(mine):
    """Makes Prometheus read its files, and waits until it has scraped its targets."""
    # The signal would end a Prometheus that is about to start.
    until(60, "Prometheus is ready", lambda: fetch(f"{mine.lab.prometheus}/-/ready"))
    mine.compose("kill", "--signal", "HUP", "prom")
    ready = lambda: fetch(f"{mine.lab.prometheus}/api/v1/targets").count('"health":"unknown"') == 0
    until(60, "a scrape", ready)


def test_two_words_and_a_relative_path_name_a_file(mine):
    until(60, "a scrape", lambda: mine.lab.ask("up") == 1)
    output = mine.check("prometheus")
    assert "0 failed" in output[None], output[None]
    assert output["its configuration is a file of yours, and right"].endswith(": my-stack/prometheus.yml")


# Changes of prometheus.yml, and words of the lines.
TARGETS = [
    ("job_name: a", "job_name: a, metrics_path: /metric", "correct metrics_path:"),
    ("localhost:@5000", "localhost:1", "the model listens at port @5000"),
    ("localhost:@5000", "model.example:@5000", "use localhost, and the host's network"),
    ("localhost:@5000", "http://localhost:@5000", "a target is host:port, without http://"),
    (
        "job_name: a",
        "job_name: a, metric_relabel_configs: [{action: drop, source_labels: [__name__], regex: model_result}]",
        "the scrape works, but model_result isn't stored. Next: see metric_relabel_configs:",
    ),
]


@pytest.mark.parametrize("old, new, words", TARGETS, ids=[new for _, new, _ in TARGETS])
def test_a_target_that_brings_no_result_is_told_with_its_reason(restored, old, new, words):
    restored.edit("prometheus.yml", old, new)
    reload(restored)
    # On a busy machine, the first check may come before the reload.
    told = lambda: restored.with_ports(words) in restored.check("prometheus", code=None)[None]
    until(60, words, told)


RULE_FAULTS = [
    (
        "model_result > bool 0.9",
        "FAIL  the alerting rules are loaded: High: it fires at any value: model_result > bool 0.9",
    ),
    ("model_result >= 0 or vector(1)", "High: it fires at any value"),
    ("(model_result) * 100 > 100", "High: it never fires, as a result is at most 1"),
    ("model_results > 0.9", "none of them asks for model_result, but for model_results > 0.9"),
    (
        "model_result{job='b'} > 0.9",
        'open  the alerting rules are loaded: High: Prometheus doesn\'t find model_result{job="b"}',
    ),
]


@pytest.mark.parametrize("expr, words", RULE_FAULTS, ids=[expr for expr, _ in RULE_FAULTS])
def test_a_rule_that_tells_nothing_of_the_result_is_told(restored, expr, words):
    restored.edit("alert.rules", "model_result > 0.9", f'"{expr}"')
    reload(restored)
    assert words in restored.check("prometheus", code=None)[None]


GOOD_RULES = [
    "(model_result) > 0.9",
    "0.9 < model_result",
    "model_result > 0.9 and on() vector(1)",
    "count_over_time((model_result > 0.9)[1m:5s]) > 3",
    "max by (instance) (model_result{job='a'}) > 0.9",
    "model_result * 100 > 90",
    "model:result_percent > 90",
    "model:changes < 1",
    "model_result > 0.9 unless on() seen_always",
]
# Their values aren't the result from 0 to 1.
RECORDS = {"model:result_percent": "100 * model_result", "model:changes": "changes(model_result[1m])"}


def test_rules_of_any_form_are_loaded(restored):
    rules = [f'{{alert: A{number}, expr: "{expr}"}}' for number, expr in enumerate(GOOD_RULES)]
    rules = ", ".join([*rules, *(f'{{record: "{name}", expr: "{expr}"}}' for name, expr in RECORDS.items())])
    restored.edit("alert.rules", "{alert: High, expr: model_result > 0.9}", rules)
    reload(restored)
    assert restored.check("prometheus")["the alerting rules are loaded"].startswith("ok ")


def test_a_rule_whose_evaluation_fails_is_told_with_its_error(restored):
    many = "model_result > 0.9 or on(job) model_result * on(job) {__name__=~'model_re.*_count|model_result'}"
    restored.edit("alert.rules", "model_result > 0.9", f'"{many}"')
    reload(restored)
    told = lambda: "many-to-many" in restored.check("prometheus", code=None)["the alerting rules are loaded"]
    until(60, "the error", told)


def test_a_mounted_file_without_a_suffix_that_an_editor_replaced_is_told(restored):
    restored.edit(
        "compose.yaml", '".:/files"', '"./prometheus.yml:/files/prometheus.yml", "./alert.rules:/files/alert.rules"'
    )
    restored.up()
    file = restored.folder / "alert.rules"
    file.rename(restored.folder / "alert.rules~")
    file.write_text(RULES.replace("0.9", "0.8"))
    reload(restored)
    output = restored.check("prometheus", code=1)["its configuration is a file of yours, and right"]
    assert "the container still has an older my-stack/alert.rules" in output


def test_another_container_of_the_image_is_not_taken_for_the_one_with_the_port(restored):
    # The first one in the file, and another one that isn't of this stack.
    other = "  another:\n    image: PROMETHEUS\n    network_mode: host\n"
    other += '    command: ["--web.listen-address=127.0.0.1:@9093",'
    other = (
        other.replace("PROMETHEUS", require_image("prom/prometheus"))
        + " --config.file=/etc/prometheus/prometheus.yml]\n"
    )
    restored.edit("compose.yaml", "services:\n", f"services:\n{other}")
    restored.up()
    docker("run", "-d", "--label", LABEL, "--network", "none", require_image("prom/prometheus"))
    output = restored.check("prometheus")
    assert output["its configuration is a file of yours, and right"].endswith(": my-stack/prometheus.yml")


def test_an_image_without_tools_is_read_all_the_same(restored):
    """One that Compose built, such as those without cat."""
    dockerfile = f"FROM {require_image('prom/prometheus')}\nUSER root\nRUN rm -f /bin/cat /bin/wget\n"
    (restored.folder / "Dockerfile").write_text(dockerfile)
    restored.edit(
        "compose.yaml", f"image: {require_image('prom/prometheus')}", f"build: .\n    image: {restored.lab.project}:1"
    )
    restored.edit("compose.yaml", "127.0.0.1:@9090", "0.0.0.0:@9090")
    restored.up()
    until(60, "a scrape", lambda: restored.lab.ask("up") == 1)
    output = restored.check("prometheus")
    assert f"others do, too: {restored.lab.ports[9090]}" in output["only your machine reaches it"]
    assert output["its configuration is a file of yours, and right"].startswith("ok ")


def test_a_text_in_the_compose_file_is_a_file_of_yours_and_an_older_one_is_told(restored):
    content = "\n".join(f"      {line}" for line in PROMETHEUS.splitlines())
    inline = "    configs: [{source: inline, target: /files/prometheus.yml}]\n"
    inline += f"configs:\n  inline:\n    content: |{content}\n"
    restored.edit("compose.yaml", '    volumes: [".:/files", "data:/data"]\n', '    volumes: ["data:/data"]\n' + inline)
    restored.edit("compose.yaml", "rule_files: [alert.rules]", "rule_files: []")
    restored.up()
    criterion = "its configuration is a file of yours, and right"
    assert restored.check("prometheus", code=None)[criterion].startswith("ok ")
    # Compose doesn't replace the container then.
    restored.edit("compose.yaml", "scrape_interval: 1s", "scrape_interval: 2s")
    assert "docker compose up -d --force-recreate" in restored.check("prometheus", code=1)[criterion]


def test_a_variable_that_is_not_set_here_leaves_it_open_whether_the_container_differs(restored):
    restored.edit("compose.yaml", "    user: root\n", '    user: root\n    environment: {NAME: "${OF_THE_SHELL}"}\n')
    run("docker", "compose", "up", "-d", cwd=restored.folder, env=restored.env | {"OF_THE_SHELL": "here"})
    until(60, "a scrape", lambda: restored.lab.ask("up") == 1)
    assert "variable OF_THE_SHELL isn't set here" in restored.check("prometheus")["Prometheus is ready"]


def test_a_container_that_waits_or_may_not_write_is_told_with_its_reason(restored):
    waiting = "    depends_on: {first: {condition: service_healthy}}\n"
    first = "  first:\n    image: PROMETHEUS\n    network_mode: none\n"
    first += '    healthcheck: {test: [CMD, "false"], interval: 1s, retries: 1}\n'
    restored.compose("down", "-t", "1")
    restored.edit("compose.yaml", "    user: root\n", f"    user: root\n{waiting}")
    restored.edit(
        "compose.yaml", "services:\n", "services:\n" + first.replace("PROMETHEUS", require_image("prom/prometheus"))
    )
    restored.compose("up", "-d", code=None)
    assert "waits until first is healthy" in restored.check("prometheus", code=1)["Prometheus is ready"]
    restored.restore()
    restored.edit("compose.yaml", "    user: root\n", "")
    restored.edit("compose.yaml", '"data:/data"', '"./closed:/data"')
    (restored.folder / "closed").mkdir(mode=0o700)
    restored.compose("up", "-d", "--remove-orphans", code=None)
    told = lambda: re.search("permission denied.*mount a named volume", restored.check("prometheus", code=None)[None])
    until(60, "the reason", told)


def test_a_container_that_ends_without_a_word_is_told_with_its_exit_code(restored):
    restored.edit("compose.yaml", "    user: root\n", "    user: root\n    entrypoint: [sh, -c, exit 3]\n")
    restored.up()
    told = lambda: "isn't running: it ended with exit code 3" in restored.check("prometheus", code=None)[None]
    until(60, "the exit code", told)


def test_a_stack_through_a_link_or_in_a_folder_below_is_yours(restored):
    restored.compose("down", "-t", "1")
    elsewhere = restored.lab.work / "elsewhere"
    restored.folder.rename(elsewhere)
    restored.folder.symlink_to(elsewhere)
    restored.up()
    until(60, "a scrape", lambda: restored.lab.ask("up") == 1)
    assert restored.check("prometheus")["its configuration is a file of yours, and right"].startswith("ok ")
    restored.compose("down", "-t", "1")
    (elsewhere / "monitoring").mkdir()
    for name in restored.files:
        (elsewhere / name).rename(elsewhere / "monitoring" / name)
    run("docker", "compose", "up", "-d", cwd=restored.folder / "monitoring", env=restored.env)
    until(60, "a scrape", lambda: restored.lab.ask("up") == 1)
    assert "0 failed" in restored.check("prometheus")[None]
    # The other scripts know it, too.
    restored.lab.run("hand-in", "7")
    text = (restored.root / "hand-in-7.txt").read_text()
    assert re.search("^image: prom/prometheus:.* in my-stack$", text, re.M)
    assert "\n== my-stack/monitoring/compose.yaml\n" in text and re.search("^sample: [0-9]", text, re.M)
    down = f"run docker compose down in {elsewhere}/monitoring"
    project = {"COMPOSE_PROJECT_NAME": restored.lab.project}
    for words in ["up", "prometheus"], ["incident", "start"]:
        assert down in restored.lab.run(*words, env=project, code=1)
    run("docker", "compose", "down", "-t", "1", cwd=restored.folder / "monitoring", env=restored.env)
