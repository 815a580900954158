"""The Python API: every verb of the command line as a function. ``import linernotes`` offers these names."""

from linernotes.api.attributing import DEMO_PROMPT, Demo, attribute, generate, run_demo, verify
from linernotes.api.banking import OpenedBank, build_bank, check, open_bank
from linernotes.api.building import build_catalogue, rebuild, render_builtin, train_model
from linernotes.api.comparing import (
    Comparison,
    bench,
    compare,
    list_methods,
    model_fidelity,
    plan,
    self_influence,
    sweep,
)
from linernotes.api.evaluating import (
    evaluate_counterfactual,
    evaluate_groups,
    evaluate_hubs,
    evaluate_lds,
    evaluate_planted,
    evaluate_repeatability,
    write_leaderboard,
)
from linernotes.api.reporting import draw_page
from linernotes.api.workspace import Workspace
from linernotes.demo.provider import load_model, open_catalogue
from linernotes.report.truth import (
    tell_counterfactual,
    tell_groups,
    tell_hubs,
    tell_lds,
    tell_planted,
    tell_repeatability,
    tell_self_influence,
)

open = Workspace

__all__ = [
    "DEMO_PROMPT",
    "Comparison",
    "Demo",
    "OpenedBank",
    "Workspace",
    "attribute",
    "bench",
    "build_bank",
    "build_catalogue",
    "check",
    "compare",
    "draw_page",
    "evaluate_counterfactual",
    "evaluate_groups",
    "evaluate_hubs",
    "evaluate_lds",
    "evaluate_planted",
    "evaluate_repeatability",
    "generate",
    "list_methods",
    "load_model",
    "model_fidelity",
    "open",
    "open_bank",
    "open_catalogue",
    "plan",
    "rebuild",
    "render_builtin",
    "run_demo",
    "self_influence",
    "sweep",
    "tell_counterfactual",
    "tell_groups",
    "tell_hubs",
    "tell_lds",
    "tell_planted",
    "tell_repeatability",
    "tell_self_influence",
    "train_model",
    "verify",
    "write_leaderboard",
]
