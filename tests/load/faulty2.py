"""The server that misbehaves on purpose, over HTTP/2: the negative controls of --h2 and --h2-new."""
import asyncio
import json

import h2.connection
import h2.events
from h2.config import H2Configuration
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from .faulty import TICK, Faulty, Writer

ALL = 2**31 - 1  # a GOAWAY that takes whatever is on its way; the one that counts may follow


class Faulty2(Faulty):
    """As Faulty, with `fault` on every `every`-th request that it takes."""

    refused = 0  # requests
    cancelled = 0  # requests that the client gave up
    most = 0  # connections at a time

    async def _talk(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        conn = h2.connection.H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        conn.initiate_connection()
        last = ALL
        if self.fault == "goaway-at-once":
            writer.write(conn.data_to_send() + GoAwayFrame(last_stream_id=0).serialize())
            last = 0
        while True:
            writer.write(conn.data_to_send())
            data = await asyncio.wait_for(reader.read(65536), TICK if self.fault == "close-idle" else None)
            if not data:
                return
            self.most = max(self.most, len(self.tasks))
            for event in conn.receive_data(data):
                self.cancelled += isinstance(event, h2.events.StreamReset)
                if not isinstance(event, h2.events.RequestReceived):
                    continue
                if event.stream_id > last:
                    self.refused += 1
                elif next(self.turn) % self.every:
                    self._good(conn, event.stream_id)
                else:
                    last = self._misbehave2(conn, writer, event.stream_id)
            if writer.is_closing():
                return

    def _good(self, conn: h2.connection.H2Connection, number: int, status: int = 200, extra: int = 0) -> None:
        body = json.dumps({"release": self.release, "more": "x" * 150}).encode()  # fills the window of 64 KiB if nobody opens it
        conn.send_headers(number, [(":status", str(status)), ("content-length", str(len(body) + extra))])
        conn.send_data(number, body, end_stream=True)

    def _misbehave2(self, conn: h2.connection.H2Connection, writer: Writer, number: int) -> int:
        """What is wrong with this request; the last stream that is still taken."""
        fault, last = self.fault, ALL

        def goaway(last: int, code: int = 0) -> int:
            writer.write(conn.data_to_send() + GoAwayFrame(last_stream_id=last, error_code=code).serialize())
            return last

        if fault.startswith("goaway-below"):  # as nginx and Caddy when they are reloaded; "-and-ends" closes at once
            self.refused += 1
            last = goaway(max(0, number - 2))
            if fault == "goaway-below-and-ends":
                writer.close()
        elif fault == "goaway-code":
            goaway(number, ErrorCodes.INTERNAL_ERROR)
        elif fault == "goaway-covers":  # all that has come
            last = goaway(number)
            self._good(conn, number)
        elif fault == "goaway-early":  # as RFC 9113 section 6.8 advises
            goaway(ALL)
            self._good(conn, number)
        elif fault == "refused-stream":
            conn.reset_stream(number, ErrorCodes.REFUSED_STREAM)
        elif fault == "reset":
            conn.reset_stream(number, ErrorCodes.INTERNAL_ERROR)
        elif fault == "truncated":
            self._good(conn, number, extra=9)
        elif fault == "surplus-bytes":
            self._good(conn, number, extra=-9)
        elif fault == "no-body":
            conn.send_headers(number, [(":status", "200"), ("content-length", "9")], end_stream=True)
        elif fault == "status-502":
            self._good(conn, number, 502)
        elif fault == "few-streams":
            conn.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
            self._good(conn, number)
        elif fault == "garbage":
            writer.write(conn.data_to_send() + bytes(9))  # a frame of DATA on no stream
        elif fault in ("cut", "cut-middle"):
            if fault == "cut-middle":
                conn.send_headers(number, [(":status", "200")])
                writer.write(conn.data_to_send())
            writer.close()
        elif fault != "hang":
            self._good(conn, number)
        return last
