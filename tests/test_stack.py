"""A student's way through the stack on a real engine. The tests build on each other, as the lab's steps do."""

import json
import re
import time

import pytest

from lab import LABEL, ROOT, docker, fetch, fetch_json, has_image, image, listens, needs, one_line, run, until


@pytest.fixture(scope="module")
def lab(make_lab):
    lab = make_lab("stack")
    lab.services = ["prometheus", "alertmanager", "mailpit"] + ["grafana"] * has_image("grafana/grafana")
    for service in lab.services:
        image(f".*/{service}")
    return lab


@pytest.fixture
def grafana(lab):
    """What needs Grafana, and its password."""
    image("grafana/grafana")
    return lab.password()


def test_with_nothing_running_check_says_what_to_do(lab):
    said = lab.run("check", "exporter", "prometheus", code=1)
    assert "cargo run --release" in said
    assert "scripts/up.sh prometheus" in said


def test_model_up_check(lab):
    # The first two results of this seed are above 0.9: an alert fires while all starts.
    lab.model.start("--seed", "3")
    said = lab.up(*lab.services)
    assert f"http://localhost:{lab.ports[9090]}" in said
    assert (lab.stack / ".env").stat().st_mode & 0o777 == 0o600
    until(20, "the target is up", lambda: lab.ask('count(up{job="model_mock"} == 1)') == 1)
    lab.run("check", "exporter", *lab.services)


def test_all_listens_on_the_loopback_address_alone(lab):
    needs("ss", "iproute2")
    local = [line.split()[3] for line in run("ss", "-ltnH").splitlines()]
    for port in lab.ports.values():
        elsewhere = [address for address in local if re.search(rf"(?<!^127\.0\.0\.1):{port}$", address)]
        assert not elsewhere
    # One Alertmanager is no cluster: it has no port for others.
    assert fetch_json(f"{lab.alertmanager}/api/v2/status")["cluster"]["status"] == "disabled"


def test_each_container_is_bounded(lab):
    for service in lab.services:
        host = fetch_container(lab, service)["HostConfig"]
        seen = [host[key] for key in ("CapDrop", "SecurityOpt", "ReadonlyRootfs", "PidsLimit")]
        assert seen == [["ALL"], ["no-new-privileges:true"], True, 256], service
        assert host["Memory"] in (128 << 20, 512 << 20), service
        assert (host["RestartPolicy"]["Name"], host["LogConfig"]["Config"]["max-size"]) == ("unless-stopped", "1m")


def fetch_container(lab, service):
    return json.loads(docker("inspect", lab.container(service)))[0]


def test_a_stack_of_the_same_name_from_another_folder_is_left_alone(lab):
    other = lab.work / "other"
    lab.copy(other)
    for script in ("up.sh", "down.sh"):
        said = run(other / "scripts" / script, *["--volumes"] * (script == "down.sh"), code=1, env=lab.env)
        assert str(lab.stack) in said
        one_line(said)
    assert lab.container("prometheus")


def test_up_again_does_no_harm(lab):
    before = lab.container("prometheus"), lab.password()
    lab.up(*lab.services)
    assert (lab.container("prometheus"), lab.password()) == before


def test_a_high_result_is_mailed_and_its_end_in_words(lab):
    lab.quiet()
    lab.model.start("--value", "0.95")
    lab.run("check", "--alert")
    until(10, "Prometheus has the page's value", lambda: lab.ask("model_result") == 0.95)
    words = rf"FIRING ModelResultHigh at {lab.model.address} since [\d:]+ UTC: the result of the model is 0\.95, above 0\.9"
    assert re.match(words, lab.mails()[0])
    lab.quiet()
    assert lab.mails()[0].startswith("RESOLVED ModelResultHigh")


def test_a_result_that_is_high_for_one_refresh_is_mailed_within_10_s(lab):
    count = len(lab.mails("FIRING ModelResultHigh"))
    lab.model.start("--value", "0.95")
    time.sleep(5)
    lab.model.start("--value", "0.5")
    until(5, "its mail", lambda: len(lab.mails("FIRING ModelResultHigh")) > count)


def test_samples_and_mails_outlive_down(lab):
    mails, password = set(lab.mails()), lab.password()
    samples = lab.ask("count_over_time(model_result[1h])")
    lab.run("down")
    assert not listens(lab.ports[9090])
    lab.up(*lab.services)
    until(20, "a sample more", lambda: lab.ask("count_over_time(model_result[1h])") > samples)
    assert mails <= set(lab.mails())
    assert lab.password() == password


def test_a_dead_model_is_told_and_mailed(lab):
    lab.model.stop()
    until(20, "the target is down", lambda: lab.ask("up") == 0)
    said = lab.run("check", "exporter", "prometheus", code=1)
    assert "cargo run --release" in said and "connection refused" in said
    until(45, "its mail", lambda: lab.mails(f"FIRING ModelMockDown at {lab.model.address}"))
    lab.model.start("--value", "0.5")
    until(90, "the mail of its end", lambda: lab.is_over("ModelMockDown"))


def test_prometheus_killed_in_mid_write_starts_again_and_loses_nothing(lab):
    now = time.time()
    query = f"count_over_time(model_result[1h] @ {now:.0f})"
    samples = lab.ask(query)
    container = fetch_container(lab, "prometheus")
    # Not by the engine, which would take it for a wish to stop.
    host = ["--rm", "--label", LABEL, "--user", "0", "--pid", "host", "--entrypoint", "/bin/sh", image("prom/prometheus")]
    docker("run", *host, "-c", f"kill -9 {container['State']['Pid']}")
    until(60, "Prometheus started again", lambda: fetch_container(lab, "prometheus")["RestartCount"] == 1)
    until(60, "all its samples", lambda: lab.ask(query) == samples)


# save_dashboard's threshold, and whether it is shown.
OWN = [
    ("First", {}, 80, "off", ["First, panel New panel: refresh is not 5s", "Max is not 1", "no red threshold at 0.9", "Show thresholds: As lines"]),
    ("Second", {"max": 1}, 0.9, "off", ["Second, panel New panel: the threshold is not shown as a line"]),
    ("Third", {"max": 1}, 0.9, "line", []),
]


def test_a_dashboard_of_ones_own_is_told_what_it_lacks(lab, grafana):
    assert "there is none" in lab.run("check", "--own", code=1)
    for title, bounds, threshold, style, lacks in OWN:
        save_dashboard(lab, title, bounds, threshold, style)
        said = lab.run("check", "--own", code=1 if lacks else 0)
        for words in lacks:
            assert words in said
        assert "Min is not" not in said and ("refresh is not" in said) == (title == "First")
    assert "ok    a dashboard of your own, with a red line: Third" in said


def save_dashboard(lab, title, bounds, threshold, style, *more):
    """As somebody who clicked it together does."""
    steps = [{"color": "green", "value": 0}, {"color": "red", "value": threshold}]
    defaults = {"min": 0, "custom": {"thresholdsStyle": {"mode": style}}, "thresholds": {"mode": "absolute", "steps": steps}}
    target = {"refId": "A", "expr": "model_result", "datasource": {"type": "prometheus", "uid": "prometheus"}}
    panel = {"type": "timeseries", "title": "New panel", "targets": [target], "fieldConfig": {"overrides": [], "defaults": defaults | bounds}}
    times = {"refresh": "" if title == "First" else "5s", "time": {"from": "now-15m", "to": "now"}}
    dashboard = {"title": title, "panels": [*more, panel], **times}
    fetch(f"{lab.grafana}/api/dashboards/db", {"overwrite": True, "dashboard": dashboard}, password=lab.password())


def test_a_text_panel_may_have_backslashes(lab, grafana):
    """Some shells' echo ends at \\c, and a student may write where a folder of the class is."""
    for uid in (found["uid"] for found in fetch_json(f"{lab.grafana}/api/search?type=dash-db", password=grafana)):
        if uid not in ("modelmock", "modelmock-class"):
            fetch(f"{lab.grafana}/api/dashboards/uid/{uid}", method="DELETE", password=grafana)
    text = {"type": "text", "title": "Where", "options": {"mode": "markdown", "content": "see C:\\class\\notes"}}
    save_dashboard(lab, "Fourth", {"max": 1}, 0.9, "line", text)
    assert "with a red line: Fourth" in lab.run("check", "--own")


def test_grafana_asks_nobody_for_the_list_of_plugins(lab, grafana):
    # Whoever opens Connections lets Grafana's server ask for it.
    with pytest.raises(OSError, match="502"):
        fetch(f"{lab.grafana}/api/gnet/plugins", password=grafana)
    log = docker("logs", lab.container("grafana"))
    assert re.search("Proxy request failed.*dial tcp 127.0.0.1:9: connect: connection refused", log)


def test_the_readmes_line_for_a_forgotten_password_works(lab, grafana):
    command = readme_line(r"`(docker compose [^`]*reset-admin-password [^`]*)`")
    run("sh", "-c", command, cwd=lab.root, env=lab.env)
    assert "the password in stack/.env works" in lab.run("check", "grafana", code=1)
    (lab.stack / ".env").write_text(f"GRAFANA_PASSWORD={command.split()[-1]}\n")
    lab.run("check", "grafana")


def readme_line(pattern):
    for file in sorted(ROOT.glob("**/README.md")):
        if found := re.search(pattern, file.read_text()):
            return found[1]
    pytest.fail(f"no README has {pattern}")


def test_down_with_volumes_leaves_nothing(lab):
    lab.run("down", "--volumes")
    for listing in (["ps", "-aq"], ["volume", "ls", "-q"], ["network", "ls", "-q"]):
        assert docker(*listing, "--filter", f"label=com.docker.compose.project={lab.project}") == ""
    for port in (9090, 9093, 1025, 8025, 3000):
        assert not listens(lab.ports[port])
    assert not (lab.stack / ".env").exists()
