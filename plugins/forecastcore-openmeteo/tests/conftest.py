"""A service of our own on this machine, which answers in the real format, and can fail in twelve ways."""

from __future__ import annotations

import re
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import flatbuffers
import numpy as np
import pandas as pd
import pytest
from forecastcore_openmeteo import client

from forecastcore.api import Task

HOUR = 3600
#: fields of the schema's tables; the SDK for Python reads them and writes none
_SLOTS = {"VariableWithValues": 13, "VariablesWithTime": 4, "WeatherApiResponse": 16}


def weather(hour, variable="temperature_2m", latitude=0.0):
    """The weather of every place and hour since 1970; forecasts of earlier days are off by a tenth a day."""
    base, _, day = variable.partition("_previous_day")
    wave = np.sin(2 * np.pi * hour / 24) + 0.5 * np.sin(2 * np.pi * hour / 117)
    value = 10 + 5 * wave - latitude / 10 if base.startswith("temperature") else np.maximum(0, wave - 1)
    return value + 0.1 * int(day or 0)


def message(place, first, columns, *, offset=0, interval=HOUR, rows=None):
    """One place's answer as the service sends it; `columns` are (variable, unit, values)."""
    from openmeteo_sdk.Unit import Unit
    from openmeteo_sdk.Variable import Variable

    builder = flatbuffers.Builder(1024)
    built = []
    for name, unit, values in columns:
        vector = builder.CreateNumpyVector(np.asarray(values, dtype=np.float32))
        base = max((word for word in vars(Variable) if name.startswith(word)), key=len)
        day = re.search(r"_previous_day(\d)", name)
        builder.StartObject(_SLOTS["VariableWithValues"])
        builder.PrependUint8Slot(0, getattr(Variable, base), 0)
        builder.PrependUint8Slot(1, getattr(Unit, unit), 0)
        builder.PrependUOffsetTRelativeSlot(3, vector, 0)
        builder.PrependInt16Slot(11, int(day.group(1)) if day else 0, 0)
        built.append(builder.EndObject())
    builder.StartVector(4, len(built), 4)
    for one in reversed(built):
        builder.PrependUOffsetTRelative(one)
    vector = builder.EndVector()
    rows = len(columns[0][2]) if rows is None else rows
    builder.StartObject(_SLOTS["VariablesWithTime"])
    builder.PrependInt64Slot(0, first * HOUR, 0)
    builder.PrependInt64Slot(1, first * HOUR + rows * interval, 0)
    builder.PrependInt32Slot(2, interval, 0)
    builder.PrependUOffsetTRelativeSlot(3, vector, 0)
    hourly = builder.EndObject()
    builder.StartObject(_SLOTS["WeatherApiResponse"])
    builder.PrependFloat32Slot(0, place[0], 0.0)
    builder.PrependFloat32Slot(1, place[1], 0.0)
    builder.PrependInt32Slot(6, offset, 0)
    builder.PrependUOffsetTRelativeSlot(11, hourly, 0)
    builder.Finish(builder.EndObject())
    body = bytes(builder.Output())
    return struct.pack("<I", len(body)) + body


def frames(origin, *, covariates=("temperature_2m",), horizon=7 * 24, series=("a",), latitude=(41.9,), days=40):
    past = pd.date_range(origin - (days * 24 - 1) * pd.Timedelta("1h"), origin, freq="h", unit="ns")
    ahead = pd.date_range(origin + pd.Timedelta("1h"), periods=horizon, freq="h", unit="ns")
    histories, futures = [], []
    for uid, lat in zip(series, latitude, strict=True):
        values = {name: weather(_hours(past), name, lat) for name in covariates}
        histories.append(pd.DataFrame({"unique_id": uid, "ds": past, **values}))
        futures.append(pd.DataFrame({"unique_id": uid, "ds": ahead, "step": np.arange(1, horizon + 1)}))
    task = Task(origin=origin, frequency="h", horizon=horizon, covariates=tuple(covariates))
    return pd.concat(histories, ignore_index=True), pd.concat(futures, ignore_index=True), task


def _hours(ds):
    return ds.asi8 // pd.Timedelta("1h").value


@dataclass
class Service:
    """What it does next, and what it was asked.

    Attributes:
        mode: one of the ways to fail; empty for none.
        asked: the questions, oldest first.
    """

    mode: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)
    host: str = ""

    frames = staticmethod(frames)
    weather = staticmethod(weather)

    def answer(self, params):
        """Status, headers, body."""
        fault = {
            "500": (500, {}, b"oops"),
            "429": (429, {"Retry-After": "60"}, b'{"error": true, "reason": "Minutely API request limit exceeded."}'),
            "400": (400, {}, b'{"error": true, "reason": "Cannot resolve variable."}'),
        }.get(self.mode)
        return fault or (200, {}, self.body(params))

    def body(self, params):
        first, end = (int(np.datetime64(params[key], "h").astype(int)) for key in ("start_date", "end_date"))
        end += 24
        at = [map(float, params[axis].split(",")) for axis in ("latitude", "longitude")]
        places = list(zip(*at, strict=True))
        if self.mode == "5 of 7 days":
            end = first + (2 + 5) * 24
        if self.mode == "stale run":
            first, end = first - 20 * 24, end - 20 * 24
        messages = []
        for place in places:
            hours = np.arange(first, end) + (2 if self.mode == "shifted hour" else 0)
            columns = []
            for name in params["hourly"].split(","):
                values = weather(hours, name, place[0])
                unit = "celsius" if name.startswith("temperature") else "millimetre"
                if self.mode.startswith("fahrenheit") and unit == "celsius":
                    values, unit = values * 9 / 5 + 32, "fahrenheit" if self.mode == "fahrenheit" else unit
                if self.mode == "NaN column" and name == "temperature_2m":
                    values = np.full(len(hours), np.nan)
                if self.mode == "duplicate hours":
                    values = np.insert(values, 30, values[30])
                columns.append((name, unit, values))
            at = (place[0] - 30, place[1]) if self.mode == "wrong place" else place
            offset = 3600 if self.mode == "local clock" else 0
            messages.append(message(at, first, columns, offset=offset, rows=end - first))
        return b"".join(messages)


class _Handler(BaseHTTPRequestHandler):
    service: Service

    def do_GET(self):
        params = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        self.service.asked.append(params)
        if self.service.mode == "timeout":
            time.sleep(2)
            return
        status, headers, body = self.service.answer(params)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.service.mode == "slow drip":
            for byte in body[:30]:
                time.sleep(0.1)
                self.wfile.write(bytes([byte]))
            return
        self.wfile.write(body[: len(body) // 2] if self.service.mode == "cut off" else body)

    def log_message(self, *args):
        pass


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that gives up is what some tests are about


@pytest.fixture
def service():
    """The service, on a free port of this machine."""
    made = Service()
    server = _Quiet(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": made}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    made.host = f"http://127.0.0.1:{server.server_address[1]}"
    client._resting.clear()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
    client._resting.clear()
