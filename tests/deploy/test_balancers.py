"""The load balancers accept their configurations."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.deploy.files import DEPLOY, run_tool

if TYPE_CHECKING:
    from pathlib import Path

CADDYFILE = DEPLOY / "caddy" / "Caddyfile"
# Debian installs it in a folder that is only on root's PATH.
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")


def test_caddy_accepts_its_configuration() -> None:
    env = {"API_UPSTREAMS": "api-1:8080 api-2:8080", "HOME": "/nonexistent"}
    run_tool("caddy", "validate", "--adapter", "caddyfile", "--config", CADDYFILE, env=env)
    assert run_tool("caddy", "fmt", CADDYFILE) == CADDYFILE.read_text()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed (apt install nginx-light)")
def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    assert NGINX is not None
    whole = tmp_path / "nginx.conf"
    own = f"include {DEPLOY / 'nginx' / 'ragsvc.conf'};"
    whole.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {own} }}")
    done = subprocess.run([NGINX, "-t", "-c", whole], capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
