"""The Python API: every verb of the command line as a function. ``import linernotes`` offers these names.

A name's module is imported when the name is first used: most of them bring torch and diffusers, which take seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linernotes.api.attributing import DEMO_PROMPT, Demo, attribute, generate, run_demo, verify
    from linernotes.api.banking import OpenedBank, build_bank, check, open_bank
    from linernotes.api.building import build_catalogue, load_model, rebuild, render_builtin, train_model
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
    from linernotes.api.opening import open_catalogue

NAMES = {
    "attributing": ("DEMO_PROMPT", "Demo", "attribute", "generate", "run_demo", "verify"),
    "banking": ("OpenedBank", "build_bank", "check", "open_bank"),
    "building": ("build_catalogue", "load_model", "rebuild", "render_builtin", "train_model"),
    "comparing": (
        "Comparison",
        "bench",
        "compare",
        "list_methods",
        "model_fidelity",
        "plan",
        "self_influence",
        "sweep",
    ),
    "evaluating": (
        "evaluate_counterfactual",
        "evaluate_groups",
        "evaluate_hubs",
        "evaluate_lds",
        "evaluate_planted",
        "evaluate_repeatability",
        "write_leaderboard",
    ),
    "opening": ("open_catalogue",),
}
MODULE_OF = {name: module for module, names in NAMES.items() for name in names}

__all__ = [
    "DEMO_PROMPT",
    "Comparison",
    "Demo",
    "OpenedBank",
    "attribute",
    "bench",
    "build_bank",
    "build_catalogue",
    "check",
    "compare",
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
    "open_bank",
    "open_catalogue",
    "plan",
    "rebuild",
    "render_builtin",
    "run_demo",
    "self_influence",
    "sweep",
    "train_model",
    "verify",
    "write_leaderboard",
]


def __getattr__(name: str) -> Any:
    """A name of ``__all__`` out of its module."""
    if name not in MODULE_OF:
        raise AttributeError(f"module 'linernotes.api' has no attribute {name!r}")
    return getattr(import_module(f"linernotes.api.{MODULE_OF[name]}"), name)
