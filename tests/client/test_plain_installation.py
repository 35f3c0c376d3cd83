"""The client installs without the server: it works where nothing of that can be imported, and names missing extras."""

from __future__ import annotations

import subprocess
import sys
import tomllib

from tests.architecture import FOLDERS, ROOT

BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in vendors or name.split(".")[:2] in folders:
            raise ImportError(f"blocked: {name}")
        return None

vendors, folders = set(VENDORS), [["zentra", folder] for folder in FOLDERS]
sys.meta_path.insert(0, Block())
"""
PROGRAM = """
import asyncio, httpx2
from zentra.client import api
from zentra.client.errors import MissingExtraError

answer = httpx2.MockTransport(lambda request: httpx2.Response(200, json={"version": "1", "schema": "2"}))
with api.Zentra("k", "http://x.test", http_client=httpx2.Client(transport=answer)) as client:
    print(client.meta.version().version)

async def main():
    http = httpx2.AsyncClient(transport=answer)
    async with api.AsyncZentra("k", "http://x.test", http_client=http) as client:
        print((await client.meta.version()).schema)
    try:
        await api.NatsZentra("nats://x.test").connect()
    except MissingExtraError as error:
        print(error)

asyncio.run(main())
try:
    api.verify_packet(b"{}", b"")
except MissingExtraError as error:
    print(error)
print(*sorted({name.split(".")[1] for name in sys.modules if name.startswith("zentra.")}))
"""
SAID = """\
1
2
NATS needs more than the plain client: pip install 'zentra[client,nats]'
verifying evidence needs more than the plain client: pip install 'zentra[client,evidence]'
client
"""


def extras() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, list[str]] = project["optional-dependencies"]
    return {
        name: [one.split(">")[0].replace("-py", "").replace("-", "_") for one in wanted]
        for name, wanted in found.items()
    }


def test_the_client_works_without_the_server() -> None:
    own = {"anyio"}  # httpx2 has it too
    vendors = sorted(set(extras()["server"]) - own)
    assert {"nats", "cryptography", "asyncpg"} <= set(vendors)
    folders = sorted(FOLDERS.keys() - {"client"})
    program = BLOCKED.replace("VENDORS", repr(vendors)).replace("FOLDERS", repr(folders)) + PROGRAM
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr


def test_what_an_extra_of_the_client_brings_the_server_has_as_well() -> None:
    found = extras()
    assert set(found["evidence"] + found["nats"]) <= set(found["server"])
