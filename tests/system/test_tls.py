"""Redis behind TLS: a certificate that is not right is refused in one line, and no password shows anywhere."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from cronq.cli import main
from cronq.cli.private_redis import find_server
from tests.system.processes import Processes, until

SECRET = "s3cret-word"
Cli = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class TlsServer:
    """A redis-server that speaks TLS only; *url* without the authority, *ca* the authority's certificate."""

    url: str
    ca: Path

    @property
    def trusted_url(self) -> str:
        return f"{self.url}?ssl_ca_certs={self.ca}"


def _openssl(directory: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True, timeout=30)


def _certify(directory: Path, name: str, alternative: str) -> None:
    """A key and a certificate of our authority for the names in *alternative*."""
    # Python verifies strictly from 3.13 on: a certificate names the key it was signed with.
    (directory / f"{name}.ext").write_text(f"subjectAltName={alternative}\nauthorityKeyIdentifier=keyid\n")
    _openssl(directory, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr",
             "-subj", f"/CN={name}")  # fmt: skip
    _openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
             "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt")  # fmt: skip


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command makes certificates here")
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "stranger"):
        _openssl(directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out",
                 f"{name}.crt", "-days", "2", "-subj", f"/CN={name}",
                 "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    _certify(directory, "here", "IP:127.0.0.1,DNS:localhost")
    _certify(directory, "elsewhere", "DNS:elsewhere.example")
    return directory


def _serve(directory: Path, name: str, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            find_server(), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--requirepass", SECRET,
            "--tls-cert-file", f"{name}.crt", "--tls-key-file", f"{name}.key", "--tls-ca-cert-file", "ca.crt",
            "--tls-auth-clients", "no", "--save", "", "--dir", str(directory),
        ],
        cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def servers(certificates: Path, unused_port: Callable[[], int]) -> Iterator[dict[str, TlsServer]]:
    """By the name of their certificate; none knows what it is called by clients, which is 127.0.0.1."""
    running, found = [], {}
    try:
        for name in ("here", "elsewhere"):
            port = unused_port()
            process = _serve(certificates, name, port)
            running.append(process)
            found[name] = TlsServer(f"rediss://:{SECRET}@127.0.0.1:{port}/0", certificates / "ca.crt")
            until(lambda p=process, n=port: _listens(p, n), what=f"the server with the certificate {name}")
        yield found
    finally:
        for process in running:
            process.kill()
            process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    if process.poll() is not None:
        pytest.skip("this redis-server was built without TLS")
    try:
        return bool(ssl.get_server_certificate(("127.0.0.1", port), timeout=5))
    except OSError:
        return False


@pytest.fixture
def cronq(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`cronq WORDS` within this process: code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str, url: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cronq", *words])
        monkeypatch.setenv("CRONQ_REDIS_URL", url)
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main()
        said = capsys.readouterr()
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, said.out, said.err

    return call


def test_a_certificate_of_the_right_authority_and_name_is_taken(servers: dict[str, TlsServer], cronq: Cli) -> None:
    code, out, err = cronq("list", url=servers["here"].trusted_url)

    assert (code, out) == (0, ""), err


@pytest.mark.parametrize("case", ["no authority", "another authority", "another name"])
def test_a_certificate_that_is_not_right_is_refused_in_one_line(
    servers: dict[str, TlsServer], certificates: Path, cronq: Cli, case: str
) -> None:
    url = {
        "no authority": servers["here"].url,
        "another authority": f"{servers['here'].url}?ssl_ca_certs={certificates / 'stranger.crt'}",
        "another name": servers["elsewhere"].trusted_url,
    }[case]

    code, out, err = cronq("list", url=url)

    assert (code, out) == (69, "")
    (line,) = err.splitlines()
    assert "certificate verify failed" in line
    assert SECRET not in line


def test_a_wrong_password_is_told_without_it(servers: dict[str, TlsServer], cronq: Cli) -> None:
    code, out, err = cronq("list", url=servers["here"].trusted_url.replace(SECRET, "wr0ng-word"))

    assert (code, out) == (78, "")
    (line,) = err.splitlines()
    assert "refused the login" in line
    assert "wr0ng-word" not in line


def test_beat_worker_and_lock_work_over_tls_and_tell_nobody_the_password(
    servers: dict[str, TlsServer], cronq: Cli, tmp_path: Path
) -> None:
    url = servers["here"].trusted_url
    code, _, err = cronq("add", "every-second", "--every", "1s", "--exclusive", "--", "true", url=url)
    assert code == 0, err

    with Processes(url, tmp_path) as processes, Redis.from_url(url) as client:
        begun = [processes.start("beat"), processes.start("worker")]

        def succeeded() -> bool:
            return '"succeeded"' in cronq("history", "every-second", "--json", url=url)[1]

        until(succeeded, what=lambda: "\n".join(process.log for process in begun))
        shown = "".join(process.log + process.output for process in begun)
        commands = [Path(f"/proc/{process.pid}/cmdline").read_bytes() for process in begun]

        assert "START-UP" in shown
        assert SECRET not in shown
        assert not any(SECRET.encode() in words for words in commands)
        client.flushall()


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@127.0.0.1:1/0", f"redis://:{SECRET}@127.0.0.1:1/0", f"redis://{SECRET}@127.0.0.1:1/0",
        f"unix://:{SECRET}@/nowhere/redis.sock", f"rediss://127.0.0.1:1/0?password={SECRET}",
        f"redis://127.0.0.1:1/0?pass%77ord={SECRET}", f"http://u:{SECRET}@127.0.0.1/", f"REDIS://:{SECRET}@127.0.0.1:1/0",
        f"redis+sentinel://:{SECRET}@127.0.0.1:1/main/0", f"sentinel://{SECRET}@127.0.0.1:1/main",
    ],
)  # fmt: skip
def test_no_form_of_a_url_shows_its_password(cronq: Cli, url: str) -> None:
    settings, listed = cronq("config", url=url), cronq("list", url=url)

    assert listed[0] != 0
    assert SECRET not in "".join(str(word) for word in (*settings, *listed))
