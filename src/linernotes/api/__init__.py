"""The Python API: every verb of the command line as a function. ``import linernotes`` offers these names.

A name's module is imported when the name is first used: most of them bring torch and diffusers, which take
seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linernotes.api.attributing import DEMO_PROMPT, Demo, attribute, generate, run_demo, verify
    from linernotes.api.banking import OpenedBank, build_bank, check, open_bank
    from linernotes.api.building import build_catalogue, rebuild, render_builtin, train_model
    from linernotes.api.calibrating import calibrate
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
    from linernotes.api.crediting import (
        CheckedRights,
        audit,
        check_rights,
        credit,
        new_key,
        write_statement,
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
    from linernotes.api.workspace import Workspace, open
    from linernotes.demo.opening import open_catalogue
    from linernotes.demo.provider import load_model

NAMES = {
    "api.attributing": ("DEMO_PROMPT", "Demo", "attribute", "generate", "run_demo", "verify"),
    "api.banking": ("OpenedBank", "build_bank", "check", "open_bank"),
    "api.building": ("build_catalogue", "rebuild", "render_builtin", "train_model"),
    "api.calibrating": ("calibrate",),
    "api.comparing": (
        "Comparison",
        "bench",
        "compare",
        "list_methods",
        "model_fidelity",
        "plan",
        "self_influence",
        "sweep",
    ),
    "api.crediting": (
        "CheckedRights",
        "audit",
        "check_rights",
        "credit",
        "new_key",
        "write_statement",
    ),
    "api.evaluating": (
        "evaluate_counterfactual",
        "evaluate_groups",
        "evaluate_hubs",
        "evaluate_lds",
        "evaluate_planted",
        "evaluate_repeatability",
        "write_leaderboard",
    ),
    "demo.opening": ("open_catalogue",),
    "demo.provider": ("load_model",),
    "api.reporting": ("draw_page",),
    "api.workspace": ("Workspace", "open"),
}
MODULE_OF = {name: module for module, names in NAMES.items() for name in names}

__all__ = [
    "DEMO_PROMPT",
    "CheckedRights",
    "Comparison",
    "Demo",
    "OpenedBank",
    "Workspace",
    "attribute",
    "audit",
    "bench",
    "build_bank",
    "build_catalogue",
    "calibrate",
    "check",
    "check_rights",
    "compare",
    "credit",
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
    "new_key",
    "open",
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
    "write_statement",
]


def __getattr__(name: str) -> Any:
    """A name of ``__all__`` out of its module."""
    if name not in MODULE_OF:
        raise AttributeError(f"module 'linernotes.api' has no attribute {name!r}")
    return getattr(import_module(f"linernotes.{MODULE_OF[name]}"), name)
