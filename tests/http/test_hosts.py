"""The daemon answers only to its own names (server.hosts). So a stranger's page cannot lead a browser here."""

import contextlib
import http.client
import socket

import pytest

from conftest import ADMIN, Daemon, read_answer

LOOPBACK = ["localhost", "localhost:8080", "LocalHost", "localhost.", "127.0.0.1", "127.0.0.1:8080", "127.1.2.3", "[::1]", "[::1]:80"]
ADDRESSES = ["192.0.2.1", "10.0.0.1:8080", "[2001:db8::1]:8080", "[::ffff:192.0.2.1]", "[2001:DB8::A]"]
STRANGERS = ["evil.example", "evil.example:8080", "localhost.evil.example", "xlocalhost", "127.0.0.1.evil.example", "2130706433"]
MALFORMED = ["a b", "a/b", "evil@localhost", "localhost:80:80", "localhost:x", "[::1", "::1", "[localhost]", "[dead.beef]", "[....]", "[::::]", "[]", "[:]", "[1:2]", "[192.0.2.1]",
             "[v7.a:b]", "[unix]", "[::1]x", "[" + "0" * 60 + "::1]", "localhost\\", 'local"host']
PATHS = ["/", "/healthz", "/models", "/metrics", "/generate?length=1", "/nothing"]


def ask(daemon, host, path="/healthz", target=None, token=None):
    lines = [f"GET {target or path} HTTP/1.1", f"Host: {host}", *([f"Authorization: Bearer {token}"] if token else [])]
    with daemon.socket() as connection:
        connection.sendall("".join(line + "\r\n" for line in lines + [""]).encode())
        return read_answer(connection)


@pytest.fixture(scope="module")
def strict(models):
    """Default settings: no setting names a host."""
    running = Daemon(models["tiny"], {"server.hosts": None})
    yield running
    running.close()


@pytest.fixture(scope="module")
def named(models):
    running = Daemon(models["tiny"], {"server.hosts": ["lstmd.example.org, other.example.org:443", "Third"]})
    yield running
    running.close()


@pytest.mark.parametrize("host", LOOPBACK + ADDRESSES + [""])
def test_loopback_names_and_addresses_are_always_answered(strict, named, host):
    assert ask(strict, host).status == ask(named, host).status == 200


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", STRANGERS)
def test_other_names_are_misdirected(strict, named, host, path):
    for daemon in (strict, named):
        answer = ask(daemon, host, path)
        assert "server.hosts" in answer.problem(421)["detail"] and answer.headers["Connection"] == "close"
        assert answer.headers["X-Request-Id"]


def test_other_names_are_misdirected_whoever_asks(strict):
    """The daemon checks the name before the token. A wrong token does not count as a guess, a right one does not help."""
    for token in ["wrong"] * 20 + [ADMIN]:
        assert ask(strict, "evil.example", "/train", token=token).status == 421
    assert ask(strict, "localhost", "/models/x/load", token="wrong").status == 405


@pytest.mark.parametrize("host", MALFORMED)
def test_host_that_is_none_is_malformed(strict, host):
    assert "is no host" in ask(strict, host).problem(400)["detail"]


@pytest.mark.parametrize("host", ["lstmd.example.org", "LSTMD.example.ORG:8080", "lstmd.example.org.", "other.example.org", "third:1"])
def test_names_of_the_setting_are_answered(strict, named, host):
    assert (ask(strict, host).status, ask(named, host).status) == (421, 200)
    assert ask(named, "x." + host).status == 421


@pytest.mark.parametrize("target, status", [("http://localhost:80/healthz", 200), ("HTTP://127.0.0.1/healthz", 200),
                                            ("http://evil.example/healthz", 421), ("http://evil.example", 421),
                                            ("http://evil.example?localhost", 421), ("http://a@localhost/healthz", 400)])
def test_name_of_an_absolute_target_counts_instead_of_host(strict, target, status):
    """RFC 9112, 3.2.2."""
    assert ask(strict, "evil.example" if status == 200 else "localhost", target=target).status == status


def test_old_client_that_names_no_host_is_answered(strict):
    """No browser is such a client. A load balancer's probe may be one."""
    with strict.socket() as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert read_answer(connection).status == 200
    with strict.socket() as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n")
        assert read_answer(connection).status == 421


@pytest.mark.parametrize("listen", ["0.0.0.0", "::"])
def test_every_interface_is_no_exception(models, listen):
    """A container listens on every interface. Probes use its address; its settings name its hosts."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in listen else socket.AF_INET) as probe:
            probe.bind((listen, 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with contextlib.closing(Daemon(models["tiny"], {"server.hosts": None, "server.listen": listen})) as daemon:
        for host, status in (("10.1.2.3:8080", 200), ("localhost", 200), ("lstmd", 421)):
            with contextlib.closing(http.client.HTTPConnection(listen, daemon.port)) as connection:
                connection.request("GET", "/readyz", headers={"Host": host})
                assert connection.getresponse().status == status


def test_star_is_any_name(start):
    daemon = start("tiny", {"server.hosts": "*"})
    assert ask(daemon, "evil.example").status == 200
    assert ask(daemon, "a b").status == 400


def test_names_come_from_the_environment_too(start):
    daemon = start("tiny", {"server.hosts": None}, {"LSTMD_SERVER_HOSTS": "one.example,two.example"})
    assert [ask(daemon, name).status for name in ("one.example", "two.example", "one.example,two.example")] == [200, 200, 421]


def test_unix_socket_has_no_names(start, tmp_path):
    path = tmp_path / "socket"
    start("tiny", {"server.hosts": None, "server.listen": f"unix:{path}"})
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: lstmd\r\n\r\n")
        assert read_answer(connection).status == 200


@pytest.mark.parametrize("name", ["https://lstmd.example.org", "a/b", "*.example.org", "a:b", ":80", "[::1"])
def test_what_is_no_name_is_refused_at_the_start(models, name):
    with pytest.raises(AssertionError, match="server.hosts: .* is neither a name"):
        Daemon(models["tiny"], {"server.hosts": name})
