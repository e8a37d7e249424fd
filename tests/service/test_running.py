"""Server processes: several workers with one store, the end of one, and its log."""

from __future__ import annotations

import json
import signal
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles

import httpx
import pytest

from shared_core.service.access import new_key
from tests.service.process import started
from tests.service.upstream import Upstream

pytestmark = pytest.mark.slow

ENDED = (0, -signal.SIGTERM)
"""One process ends by the signal that it was sent, after it did what it had to."""


def question(number: int) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": f"Secret part {number}?"}]}


def answered(number: int) -> dict[str, object]:
    return {**question(number), "answer": {"content": f"answer {number}"}}


def test_workers_share_one_store_their_settings_and_their_counts(tmp_path: Path) -> None:
    key, entry = new_key("ops", "admin")
    flags = ("--cache", f"sqlite:///{tmp_path / 'a.db'}", "--workers", "2", "--no-semantic")
    headers = {"authorization": f"Bearer {key}"}
    with started(*flags, TIERED_CACHE_KEYS=str(entry)) as running:
        assert httpx.post(f"{running.url}/v1/cache/get", json=question(0)).status_code == 401
        for number in range(10):  # a connection each, so that both workers get some
            told = answered(number)
            httpx.post(f"{running.url}/v1/cache/set", json=told, headers=headers)
        for number in range(10):
            asked = question(number)
            found = httpx.post(f"{running.url}/v1/cache/get", json=asked, headers=headers).json()
            assert found["answer"]["content"] == f"answer {number}"
        end = time.monotonic() + 10
        counted = 0
        while counted < 10 and time.monotonic() < end:
            counted = httpx.get(f"{running.url}/v1/cache/stats", headers=headers).json()["lookups"]
        assert counted == 10

        took = []
        with httpx.Client(base_url=running.url) as client:
            for _ in range(40):
                began = time.perf_counter()
                client.get("/health")
                took.append(time.perf_counter() - began)
        assert quantiles(took, n=10)[0] < 0.03, "answers wait for full packets"
        assert running.stop() in ENDED


def test_what_is_under_way_finishes_before_the_end(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'a.db'}"
    rows = [answered(number) for number in range(3_000)]
    with started("--cache", store, "--no-semantic") as running:
        told = []
        with httpx.stream(
            "POST", f"{running.url}/v1/cache/warm", json={"rows": rows}, timeout=60
        ) as stream:
            for line in stream.iter_lines():
                if not line:
                    continue
                told.append(json.loads(line.removeprefix("data: ")))
                if len(told) == 1:
                    running.process.send_signal(signal.SIGTERM)
        assert told[0]["done"] < 3_000, "it was over before the signal came"
        assert told[-1]["done"] == told[-1]["stored"] == 3_000
        assert running.process.wait(30) in ENDED
    with started("--cache", store, "--no-semantic") as again:
        found = httpx.post(f"{again.url}/v1/cache/get", json=question(2_999)).json()
        assert found["outcome"] == "hit"


def test_a_call_of_the_upstream_that_is_under_way_is_answered_and_kept(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.latency = 2.0
    flags = ("--cache", f"sqlite:///{tmp_path / 'a.db'}", "--no-semantic")
    flags = (*flags, "--upstream", upstream.url, "--shared")
    with started(*flags) as running, ThreadPoolExecutor(2) as pool:
        url = f"{running.url}/v1/chat/completions"
        asking = [pool.submit(httpx.post, url, json=question(1), timeout=30) for _ in range(2)]
        while not upstream.calls:
            time.sleep(0.01)
        running.process.send_signal(signal.SIGTERM)
        for one in asking:
            text = one.result().json()["choices"][0]["message"]["content"]
            assert text == "answer to Secret part 1?"
        assert running.process.wait(30) in ENDED
    assert upstream.calls == 1
    with started(*flags) as again:
        found = httpx.post(f"{again.url}/v1/cache/get", json=question(1)).json()
        assert found["outcome"] == "hit"


def test_no_prompt_is_logged_at_any_level() -> None:
    nowhere = ("--upstream", "http://127.0.0.1:9/v1")
    with started("--log-level", "debug", "--access-log", "--no-semantic", *nowhere) as running:
        assert httpx.post(f"{running.url}/v1/cache/set", json=answered(1)).is_success
        assert httpx.post(f"{running.url}/v1/cache/get", json=question(1)).is_success
        httpx.post(f"{running.url}/v1/cache/get", json={"messages": "Secret"})
        assert httpx.post(f"{running.url}/v1/chat/completions", json=question(1)).is_success
        assert httpx.post(f"{running.url}/v1/chat/completions", json=question(2)).status_code == 502
        running.process.send_signal(signal.SIGTERM)
        log = running.process.communicate(timeout=30)[0]
    assert "POST /v1/cache/get" in log
    assert "Secret" not in log
    assert "answer 1" not in log


def test_a_search_is_not_logged() -> None:
    with started("--access-log", "--no-semantic") as running:
        asked = {"query": "hunter2", "by": "words"}
        assert httpx.get(f"{running.url}/v1/cache/entries", params=asked).is_success
        running.process.send_signal(signal.SIGTERM)
        log = running.process.communicate(timeout=30)[0]
    assert "GET /v1/cache/entries HTTP" in log
    assert "hunter2" not in log


def test_a_stream_that_breaks_off_is_logged_once_and_plainly(upstream: Upstream) -> None:
    upstream.cut = 2
    with started("--no-semantic", "--upstream", upstream.url) as running:
        url = f"{running.url}/v1/chat/completions"
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(url, json={**question(1), "stream": True}, timeout=10)
        stats = httpx.get(f"{running.url}/v1/cache/stats").json()
        assert stats["upstream"]["calls"]["cut"] == 1
        running.process.send_signal(signal.SIGTERM)
        log = running.process.communicate(timeout=30)[0]
    assert log.count("a stream of the upstream broke off") == 1
    assert "Traceback" not in log
    assert "ASGI" not in log
    assert "failed" not in log


def test_tls_by_a_key_and_a_certificate(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    flags = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key), "--no-semantic")
    with started(*flags, scheme="https") as running:
        trusting = ssl.create_default_context(cafile=str(certificate))
        assert httpx.get(f"{running.url}/health", verify=trusting).is_success


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1, signed by itself."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([here]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, secret
