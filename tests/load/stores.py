"""POSTs with unique ids, and the proof afterwards: each acknowledged one is stored exactly once, and nothing else is."""
import asyncio
import dataclasses
import itertools
import json
import secrets
import time
from typing import Any

from . import http1
from .client import PAUSE, Client, Pacer, Run, said
from .tally import Tally
from .wire import Broken

ACKNOWLEDGED, REFUSED, UNKNOWN = 1, 2, 3  # UNKNOWN: no complete answer, so it may or may not be stored
SHOWN = 20
TRIES = 5


@dataclasses.dataclass
class Stores:
    """What was sent and what is stored."""

    prefix: str
    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    counted: int = -1  # what the server counts under the prefix
    found: int = 0  # how many of the ids sent are there when asked for one by one
    lost: list[str] = dataclasses.field(default_factory=list)  # acknowledged, and not there
    unanswered: list[str] = dataclasses.field(default_factory=list)  # stored although the client saw no 201
    unverified: str = ""  # why the check could not be made

    @property
    def surplus(self) -> int:
        """Stored more than once, or never sent: what is counted beyond the ids that are there."""
        return max(0, self.counted - self.found)

    @property
    def uncounted(self) -> int:
        """There when asked for, and missing in the count: the server contradicts itself."""
        return max(0, self.found - self.counted)

    def faults(self) -> int:
        """How much is wrong; 0 proves that each acknowledged id is stored once and that nothing was stored that was not sent."""
        if self.unverified:
            return max(1, self.acknowledged)
        return len(self.lost) + self.surplus + self.uncounted

    def dump(self) -> dict[str, Any]:
        """As JSON; the lists cut to the first few, the numbers exact."""
        made = dataclasses.asdict(self)
        for name in ("lost", "unanswered"):
            made[f"{name}_ids"] = made[name][:SHOWN]
            made[name] = len(made[name])
        return made | {"surplus": self.surplus, "uncounted": self.uncounted, "faults": self.faults()}


class Ledger:
    """The ids of one run and what became of each; an id is a version 4 UUID that begins with the prefix of the run."""

    def __init__(self) -> None:
        run = secrets.token_hex(8)
        self.prefix = f"{run[:8]}-{run[8:12]}-4{run[12:15]}-8"
        self.numbers = itertools.count()
        self.outcome = bytearray()

    def new(self) -> int:
        """The number of a new id."""
        self.outcome.append(UNKNOWN)
        return next(self.numbers)

    def id(self, number: int) -> str:
        """The id with that number."""
        tail = f"{number:015x}"
        return f"{self.prefix}{tail[:3]}-{tail[3:]}"


async def posts(client: Client, pacer: Pacer, ledger: Ledger, event: int | str) -> None:
    """POST registrations until the load is over, each once; 201 or it failed. Never retried: a POST may have been stored."""
    run, tally = client.run, client.tally
    while True:
        start = await pacer.turn()
        if not run.begin(tally):
            break
        number = ledger.new()
        body = json.dumps({"id": ledger.id(number), "eventId": event, "name": f"Load {number}",
                           "email": f"load-{number}@example.com"}).encode()
        try:
            answer = await client.ask(http1.request("POST", "/registrations", run.authority, (), body), run.timeout, retry=False)
        except Broken as broken:
            tally.fail(client.number, broken.what, f"{ledger.id(number)}: {broken.detail}")
            await run.pause(PAUSE)
            continue
        ledger.outcome[number] = ACKNOWLEDGED if answer.status == 201 else REFUSED
        if answer.status == 201:
            tally.answered(answer.release(), start, time.monotonic())
        else:
            tally.fail(client.number, str(answer.status), f"{ledger.id(number)}: {said(answer)}")
            await run.pause(PAUSE)
    client.drop()


async def verify(run: Run, ledger: Ledger, clients: int = 16) -> Stores:
    """Ask for every id that was sent, then for the count under the prefix; these requests are not part of the account."""
    outcome = ledger.outcome
    stores = Stores(ledger.prefix, len(outcome), outcome.count(ACKNOWLEDGED), outcome.count(REFUSED), outcome.count(UNKNOWN))
    numbers = iter(range(len(outcome)))

    async def check(client: Client) -> None:
        for number in numbers:
            answer = await insist(client, f"/registrations/{ledger.id(number)}", (200, 404))
            there, acknowledged = answer.status == 200, outcome[number] == ACKNOWLEDGED
            stores.found += there
            if acknowledged and not there:
                stores.lost.append(ledger.id(number))
            elif there and not acknowledged:
                stores.unanswered.append(ledger.id(number))
        client.drop()

    try:
        async with asyncio.TaskGroup() as group:
            for n in range(clients):
                group.create_task(check(Client(run, Tally("verify"), n)))
        client = Client(run, Tally("verify"), 0)
        counted = await insist(client, f"/registrations/count?prefix={ledger.prefix}", (200,))
        client.drop()
        stores.counted = int(json.loads(counted.body)["count"])
    except* Broken as broken:
        stores.unverified = str(broken.exceptions[0])
    except* (ValueError, KeyError, TypeError) as wrong:
        stores.unverified = f"the count is not understood: {wrong.exceptions[0]!r}"
    return stores


async def insist(client: Client, path: str, wanted: tuple[int, ...]) -> http1.Answer:
    """A GET that is tried again when it fails; Broken after the last try."""
    request = http1.request("GET", path, client.run.authority)
    why = Broken("verify", path)
    for _ in range(TRIES):
        try:
            answer = await client.ask(request, client.run.timeout, retry=True)
        except Broken as broken:
            why = broken
        else:
            if answer.status in wanted:
                return answer
            why = Broken(str(answer.status), f"{path}: {said(answer)}")
        await asyncio.sleep(0.2)  # a pause between tries; the load is over, so nothing is measured
    raise why


async def an_event(run: Run) -> int | str:
    """The id of some event that registrations can be made for."""
    client = Client(run, Tally("verify"), 0)
    answer = await insist(client, "/events", (200,))
    client.drop()
    found = json.loads(answer.body)
    rows = found if isinstance(found, list) else next((v for v in found.values() if isinstance(v, list)), [])
    if not rows:
        raise Broken("setup", "GET /events lists no event to register for: give --event-id, or store one first")
    found = rows[0]["id"]
    return found if isinstance(found, int) else str(found)
