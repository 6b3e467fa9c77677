"""How up.sh starts on a real engine, and what keeps it from that."""

import os
import shutil

import pytest

from lab import docker, edit, end, image, one_line, run, start, until


@pytest.fixture(scope="module")
def lab(make_lab):
    for service in ("alertmanager", "mailpit", "prometheus"):
        image(f".*/{service}")
    return make_lab("up")


def is_gone(lab):
    return docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={lab.project}") == ""


def test_a_taken_port_is_named_with_what_holds_it(lab, model):
    model(port=lab.ports[9093])
    said = lab.run("up", "alertmanager", code=1)
    assert f"port {lab.ports[9093]}, which alertmanager needs" in said
    one_line(said)
    if shutil.which("lsof") or shutil.which("ss"):
        assert "modelmock" in said


def test_what_the_containers_may_not_read_is_named_and_the_hint_mends_it(lab):
    # As with a umask of 077; the folder's name has blanks.
    run("chmod", "-R", "go-rwx", lab.stack)
    said = lab.run("up", "mailpit", code=1)
    one_line(said)
    assert "the containers may not read" in said
    run("sh", "-c", said.split(": run ")[1], cwd="/")
    lab.run("up", "mailpit")
    lab.run("down", "--volumes")


def test_through_a_link_the_folder_is_the_same(lab):
    link = lab.work / "link"
    link.symlink_to(lab.root)
    lab.run("up", "mailpit")
    for script in ("up.sh", "down.sh"):
        run(link / "scripts" / script, *["mailpit"] * (script == "up.sh"), env=lab.env)
    assert is_gone(lab)
    run(link / "scripts/up.sh", "mailpit", env=lab.env)
    lab.run("down", "--volumes")
    assert is_gone(lab)


def test_where_dockers_host_network_is_not_this_machines_it_says_so(lab):
    # In a network of its own a script sees the engine, but not what listens on the engine's host network.
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("only root may make a network of its own, and only on Linux: sudo -E scripts/test.sh up")
    said = run("unshare", "--net", lab.root / "scripts/up.sh", "mailpit", env=lab.env, code=1)
    assert "Docker's host network is not this machine's" in said
    lab.run("down", "--volumes")


def test_interrupted_it_leaves_nothing(lab):
    log = lab.work / "said"
    with log.open("wb") as said:
        up = start(lab.root / "scripts/up.sh", "prometheus", "mailpit", env=lab.env, stdout=said, stderr=said)
    until(30, "Compose at it", lambda: "Creating" in log.read_text() or up.poll() is not None)
    # A shell waits for what it started first.
    end(up, 60)
    assert "interrupted" in log.read_text()
    assert is_gone(lab)
    lab.run("down", "--volumes")


def test_a_password_of_the_user_stays(lab):
    file = lab.stack / ".env"
    file.write_text("GRAFANA_PASSWORD=of-the-user\n")
    lab.run("up", "mailpit")
    assert file.read_text() == "GRAFANA_PASSWORD=of-the-user\n"
    lab.run("down", "--volumes")
    assert not file.exists()


def test_a_broken_rule_file_is_shown_whether_prometheus_runs_or_not(lab):
    rules = lab.stack / "prometheus/rules/model.yml"
    lab.up("prometheus")
    edit(rules, r"\Z", "      - alert: [\n")
    said = lab.run("up", "prometheus", code=1)
    assert "does not take its configuration" in said and "rules/model.yml" in said
    docker("stop", lab.container("prometheus"))
    said = lab.run("up", "prometheus", code=1)
    assert "does not run" in said and "rules/model.yml" in said
    edit(rules, r"^      - alert: \[\n", "")
    lab.run("up", "prometheus")
