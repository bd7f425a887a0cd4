"""How well offers do, what follows from it, and how an offer comes back: passive, plus calls that cost nothing.

Everything shared stands in rows, so that all processes go by the same knowledge; whoever reads them every second or two
sees each change. The operations take many items and run inside the caller's transaction, as the lane's do.

    effects     what a failure means for health: a table
    circuits    the rules of one offer: its window, its circuit, its cool-downs, its canary; no database
    reports     record_reports: what calls say
    probes      claim_probes, finish_probes, claim_trials, release_trials: one at a time over all processes
    targets     what there is to probe
    disabling   channels and offers that are out of service until somebody sees to them
    resets      reset_health, restart_canary: what people do about it
"""

from providers.health.circuits import choose_cooling_s
from providers.health.effects import Effect, find_effect
from providers.health.probes import Probed, Trial, claim_probes, claim_trials, finish_probes, release_trials
from providers.health.reports import Report, record_reports
from providers.health.resets import reset_health, restart_canary
from providers.health.targets import Target, find_due, load_targets

__all__ = [
    "Effect",
    "Probed",
    "Report",
    "Target",
    "Trial",
    "choose_cooling_s",
    "claim_probes",
    "claim_trials",
    "find_due",
    "find_effect",
    "finish_probes",
    "load_targets",
    "record_reports",
    "release_trials",
    "reset_health",
    "restart_canary",
]
