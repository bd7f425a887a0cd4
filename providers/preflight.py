"""What is known beforehand about a swap: would the other channel serve the model as well, and at what cost.

Nothing is changed, and the only call that goes out is the adapter's free one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy

from django.conf import settings
from django.utils import timezone

from models_registry.catalog import load_prices, publish
from models_registry.models import ImageModel
from providers import findings as rows
from providers.adapters import get_adapter_class, kinds
from providers.contract import Code, ProviderError
from providers.credentials import CredentialUnreadable
from providers.findings import Finding, Level, Plan
from providers.models import Channel, Credential, Offer
from providers.routing import find_exclusion
from providers.swap import SwapRefused, check_channel, choose_best, choose_successor, find_serving, take_over
from providers.transport import Transport

#: The free call, from the connection to its answer.
PROBE_LIMIT_S = 10.0
#: Answers to the free call that say nothing against the credential.
PASSING = frozenset({Code.RATE_LIMITED, Code.OVERLOADED})


Check = Callable[[Plan], Iterator[Finding]]


def inspect_swap(model: ImageModel, *, from_channel: Channel, to_channel: Channel) -> list[Finding]:
    """Every line, the refusals first. Calls the carrier where that is free, for `PROBE_LIMIT_S` at most."""
    try:
        plan = make_plan(model, from_channel=from_channel, to_channel=to_channel)
    except SwapRefused as refused:
        return [Finding(Level.REFUSAL, "Offer", f"{refused}.")]
    findings = [finding for check in CHECKS for finding in check(plan)]
    if not is_blocked(findings):
        findings += check_routing(plan)
    return sorted(findings, key=lambda finding: finding.level is not Level.REFUSAL)


def is_blocked(findings: list[Finding]) -> bool:
    return any(finding.level is Level.REFUSAL for finding in findings)


def make_plan(model: ImageModel, *, from_channel: Channel, to_channel: Channel) -> Plan:
    """Raises SwapRefused where there is not even one offer to look at."""
    if from_channel == to_channel:
        raise SwapRefused(f"{from_channel} cannot take its own place")
    if to_channel.kind not in kinds():
        raise SwapRefused(f"{to_channel}: no adapter speaks {to_channel.kind}")
    offers = list(
        Offer.objects.filter(model=model).select_related("channel__account", "model", "health").order_by("id")
    )
    serving = find_serving(offers, from_channel, model)
    theirs = [offer for offer in offers if offer.channel_id == to_channel.pk]
    fit = [offer for offer in theirs if offer.genuine] or theirs
    successor = fit[0] if len(fit) == 1 else choose_successor(offers, to_channel, model)
    prices = load_prices(timezone.now())
    return Plan(model, publish(model, prices.get(model.pk)), choose_best(serving), successor)


# --- the channel ---


def check_service(plan: Plan) -> Iterator[Finding]:
    try:
        check_channel(plan.successor.channel)
    except SwapRefused as refused:
        yield Finding(Level.REFUSAL, "Channel", f"{refused}.")


def check_credential(plan: Plan) -> Iterator[Finding]:
    channel = plan.successor.channel
    credential = Credential.objects.filter(channel=channel).order_by("-id").first()
    if credential is None:
        return
    what = get_adapter_class(channel.kind).free_probe
    if not what:
        text = f"{channel.kind} has no free call: whether the credential works shows with the first order."
        yield Finding(Level.NOTICE, "Credential", text)
        return
    level, text = judge_probe(channel, credential)
    yield Finding(level, "Credential", f"{credential}: {text} (the free call {what}).")


def judge_probe(channel: Channel, credential: Credential) -> tuple[Level, str]:
    try:
        run_probe(channel, credential.reveal())
    except ProviderError as error:
        said = f"{error.code}{f', {error.detail}' if error.detail else ''}"
        if error.code in PASSING:
            return Level.NOTICE, f"it is not refused, but the carrier is busy: {said}"
        return Level.REFUSAL, f"it does not work now: {said}"
    except TimeoutError:
        return Level.REFUSAL, f"the carrier did not answer within {PROBE_LIMIT_S:g} s"
    except (CredentialUnreadable, ValueError) as error:
        return Level.REFUSAL, f"the channel cannot be used as it is configured: {error}"
    return Level.OK, "it works"


def run_probe(channel: Channel, secret: str) -> None:
    """The free call from code without an event loop. Raises ProviderError, TimeoutError, ValueError.

    In a thread that is not waited for longer: a loop that closes waits for its look-ups of names, however long.
    """
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="preflight")
    try:
        thread.submit(lambda: asyncio.run(probe_channel(channel, secret))).result(PROBE_LIMIT_S + 1)
    finally:
        thread.shutdown(wait=False)


async def probe_channel(channel: Channel, secret: str) -> None:
    """The adapter's free call, over connections of its own. Raises ProviderError, TimeoutError; ValueError for
    options that are wrong."""
    transport = Transport(allow=settings.EGRESS_ALLOW)
    try:
        async with asyncio.timeout(PROBE_LIMIT_S):
            adapter = get_adapter_class(channel.kind)(
                transport, credential=secret, base_url=channel.base_url, options=channel.options
            )
            await adapter.probe()
    finally:
        await transport.aclose()


CHECKS: tuple[Check, ...] = (
    check_service,
    check_credential,
    rows.check_sizes,
    rows.check_n,
    rows.check_fields,
    rows.check_shape,
    rows.check_identity,
    rows.check_capacity,
    rows.check_cost,
    rows.check_health,
    rows.check_role,
    rows.check_simulated,
)


def check_routing(plan: Plan) -> Iterator[Finding]:
    """Routing's own word for the offer as the swap would leave it: nothing that it knows may be missing above."""
    successor = copy(plan.successor)
    take_over(successor, [plan.before])
    credential = Credential.objects.filter(channel=successor.channel).order_by("-id").first()
    if why := find_exclusion(successor, credential):
        yield Finding(Level.REFUSAL, "Routing", f"Routing would leave it out: {why}.")
