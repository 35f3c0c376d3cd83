"""An intent, the webhook that tells of it and the packet that proves it, against `zentra dev`.

pip install 'zentra[client,evidence]'; export ZENTRA_BASE_URL ZENTRA_API_KEY ZENTRA_PUBLIC_KEY as `zentra dev` prints them
("API", the key of acme's dev, "evidence"); python first.py"""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from zentra.client.api import Zentra


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        event = client.webhooks.verify(body, dict(self.headers), endpoint.secret or "")
        print("webhook", event.type, event.intent.intent_id)
        self.send_response(204)
        self.end_headers()


with HTTPServer(("127.0.0.1", 0), Receiver) as server, Zentra() as client:
    endpoint = client.webhooks.endpoints.create(url=f"http://127.0.0.1:{server.server_port}/", events=["ledger.posted"])
    made = client.transfers.create(amount=250_000, currency="NGN", source="customer-1", destination="merchant-1")
    print("intent", made.intent_id, client.runtime.intents.wait(made.id, timeout=30).status)
    server.handle_request()
    packet = client.evidence.wait(made.id, timeout=90)
    print("evidence", client.evidence.verify(packet, Path(os.environ["ZENTRA_PUBLIC_KEY"]).read_bytes()).ok)
