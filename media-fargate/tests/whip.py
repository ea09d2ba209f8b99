"""A WHIP client (RFC 9725) that knows nothing of us: aiortc posts its offer, speaks one tone, waits for another and deletes
the call, or goes away without a word. Prints what it saw as one line of JSON."""

import array
import asyncio
import fractions
import json
import math
import sys
import urllib.request

import av
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

server, token, codec, leaves = sys.argv[1:5]
speaks, hears = map(float, sys.argv[5:7])
RATE = 8_000
SAMPLES = 160
LISTENED = RATE // 5


class Tone(MediaStreamTrack):
    """A tone, 20 ms at a time."""

    kind = "audio"

    def __init__(self):
        super().__init__()
        self.sent, self.began = 0, None

    async def recv(self):
        loop = asyncio.get_running_loop()
        self.began = self.began or loop.time()
        await asyncio.sleep(self.began + self.sent / RATE - loop.time())
        turn = 2 * math.pi * speaks / RATE
        samples = array.array("h", (int(8_000 * math.sin(turn * (self.sent + at))) for at in range(SAMPLES)))
        frame = av.AudioFrame(format="s16", layout="mono", samples=SAMPLES)
        frame.planes[0].update(samples.tobytes())
        frame.pts, frame.sample_rate, frame.time_base = self.sent, RATE, fractions.Fraction(1, RATE)
        self.sent += SAMPLES
        return frame


def share(samples, rate):
    """The share of the tone in all the sound there is (Goertzel's algorithm)."""
    turn = 2 * math.cos(2 * math.pi * hears / rate)
    before = last = energy = 0.0
    for sample in samples:
        before, last = last, sample + turn * last - before
        energy += sample * sample
    power = before * before + last * last - turn * before * last
    return 0 if energy < 1_000 * len(samples) else 2 * power / (energy * len(samples))


async def listen(track):
    """Until the last fifth of a second is hardly anything but the tone."""
    heard = array.array("h")
    while True:
        frame = await track.recv()
        channels = len(frame.layout.channels)
        heard.extend(array.array("h", bytes(frame.planes[0]))[: frame.samples * channels : channels])
        wanted = LISTENED * frame.sample_rate // RATE
        if len(heard) >= wanted and share(heard[-wanted:], frame.sample_rate) > 0.8:
            return


def ask(method, path, body=None):
    headers = {"authorization": f"Bearer {token}", "content-type": "application/sdp"}
    request = urllib.request.Request(server + path, body and body.encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, answer.headers["location"], answer.read().decode()


async def main():
    connection = RTCPeerConnection()
    tracks = asyncio.Queue()
    connection.on("track", tracks.put_nowait)
    connection.addTrack(Tone())
    known = RTCRtpSender.getCapabilities("audio").codecs
    (transceiver,) = connection.getTransceivers()
    transceiver.setCodecPreferences([one for one in known if one.mimeType.lower() == f"audio/{codec}".lower()])
    await connection.setLocalDescription(await connection.createOffer())
    begun, path, answer = await asyncio.to_thread(ask, "POST", "/v1/calls", connection.localDescription.sdp)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await listen(await tracks.get())
    state = connection.connectionState
    # The other side is to have heard us before we go.
    await asyncio.to_thread(sys.stdin.readline)
    ended = (await asyncio.to_thread(ask, "DELETE", path))[0] if leaves == "deletes" else None
    await connection.close()
    print(json.dumps({"begun": begun, "path": path, "state": state, "ended": ended}))


asyncio.run(asyncio.wait_for(main(), 30))
