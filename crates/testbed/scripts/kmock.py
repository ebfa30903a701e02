"""Serves kmock's emulator of the Kubernetes API over TLS, and does what the lines of standard input say.

Arguments: certificate, key, address, port. The first line of the output is `listening PORT`; then each line of the input,
a JSON object, is answered by one line of the output:

  {"method": "POST", "path": "/api/v1/namespaces/shop/pods", "body": {...}}   a request of the emulator: its answer
  {"accept": "TOKEN"}                bearer tokens other than this one get 401
  {"forbid": "/namespaces/other/"}   paths with this text get 403
  {"certificate": [FILE, FILE]}      connections that come now see this certificate and key
  {"watches": "pods"}                how many watches of this kind are open

Invariant: what is asked of the API is answered by kmock alone, but for who may ask.
"""

import asyncio
import json
import ssl
import sys

import aiohttp
import aiohttp.web
import kmock

KINDS = ("v1/pods", "v1/nodes", "discovery.k8s.io/v1/endpointslices")


def refusal(code, reason, message):
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure"}
    body = {**status, "code": code, "reason": reason, "message": message}
    return aiohttp.web.json_response(body, status=code)


class Guard:
    """Lets those through to the emulator who may ask."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.token = None
        self.forbidden = []

    async def __call__(self, request):
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return refusal(401, "Unauthorized", "Unauthorized")
        for text in self.forbidden:
            if text in request.path:
                who = 'User "system:serviceaccount:shop:agent" cannot do that'
                return refusal(403, "Forbidden", who)
        return await self.emulator(request)


async def obey(line, guard, context, session, url):
    if "method" in line:
        headers = {"Authorization": f"Bearer {guard.token}"}
        forbidden, guard.forbidden = guard.forbidden, []
        async with session.request(line["method"], url + line["path"], json=line.get("body"), headers=headers) as answer:
            text = await answer.text()
        guard.forbidden = forbidden
        return {"status": answer.status, "body": text}
    if "accept" in line:
        guard.token = line["accept"]
    if "forbid" in line:
        guard.forbidden = [line["forbid"]] if line["forbid"] else []
    if "certificate" in line:
        context.load_cert_chain(*line["certificate"])
    if "watches" in line:
        buses = guard.emulator._buses.items()
        return {"watches": sum(bus.consumer_count for kind, bus in buses if kind.plural == line["watches"])}
    return {"status": 200}


async def main(certificate, key, address, port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    # Each connection shows the certificate, so that one which was rotated is seen.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    emulator = kmock.KubernetesEmulator()
    for kind in KINDS:
        emulator.resources[kind] = {}
    guard = Guard(emulator)
    async with emulator:
        runner = aiohttp.web.ServerRunner(aiohttp.web.Server(guard))
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, address, int(port), ssl_context=context)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        print(f"listening {port}", flush=True)
        lines = asyncio.StreamReader(limit=1 << 26)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:
            while line := await lines.readline():
                said = await obey(json.loads(line), guard, context, session, f"https://{address}:{port}")
                print(json.dumps(said), flush=True)
        # Watches never end of themselves, so the connections are not waited for.
        await runner.shutdown()


asyncio.run(main(*sys.argv[1:]))
